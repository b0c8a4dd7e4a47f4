"""Probes of features: equal to scikit-learn's, and chosen by validation items alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as Regression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from medkit.engine.checkpoint import load_weights, save_weights
from medkit.errors import InputError
from medkit.parts.probes import Items, Linear, Logistic, Neighbours, Ridge


def items(count: int, classes: int = 2, width: int = 6, seed: int = 0, noise: float = 1.0) -> Items:
    """Features of which the first ones carry the class."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, count)
    features = rng.normal(0, noise, (count, width))
    features[np.arange(count), label % width] += 2
    return Items(features.astype(np.float32), label.astype(float))


def said(probe: torch.nn.Module, features: np.ndarray) -> np.ndarray:
    return probe(torch.from_numpy(features)).numpy()


@pytest.mark.parametrize("k", [1, 7, 30])
@pytest.mark.parametrize("classes", [2, 4])
def test_neighbours_are_those_of_scikit_learn(k, classes):
    train, new = items(60, classes), items(40, classes, seed=1)
    probe = Neighbours(6, classes, {"k": [k]})
    probe.fit(train, None, 0)
    reference = KNeighborsClassifier(k, metric="cosine").fit(train.features, train.target)
    expected = reference.predict_proba(new.features)
    assert np.allclose(said(probe, new.features), expected[:, 1:] if classes == 2 else expected, atol=1e-7)


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_regression_is_that_of_scikit_learn(classes):
    train, new = items(80, classes), items(40, classes, seed=1)
    probe = Logistic(6, classes, {"C": [0.3]})
    probe.fit(train, None, 0)
    scale = StandardScaler().fit(train.features.astype(float))
    reference = LogisticRegression(C=0.3, tol=1e-6, max_iter=10_000)
    reference.fit(scale.transform(train.features.astype(float)), train.target)
    expected = reference.predict_proba(scale.transform(new.features.astype(float)))
    assert np.allclose(said(probe, new.features), expected[:, 1:] if classes == 2 else expected, atol=1e-6)


def test_ridge_is_that_of_scikit_learn():
    train, new = items(50, 5), items(20, 5, seed=1)
    probe = Ridge(6, 0, {"alpha": [3.0]})
    probe.fit(train, None, 0)
    scale = StandardScaler().fit(train.features.astype(float))
    reference = Regression(alpha=3.0).fit(scale.transform(train.features.astype(float)), train.target)
    expected = reference.predict(scale.transform(new.features.astype(float)))
    assert np.allclose(said(probe, new.features)[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_linear_layer_comes_to_the_optimum_of_its_loss(classes):
    """Of few items taken all at once the loss is that of logistic regression with C = 1 / (items * decay)."""
    train, new = items(90, classes), items(30, classes, seed=1)
    probe = Linear(6, classes, {"lr": [0.3], "weight_decay": [0.01]}, steps=3000, batch=90)
    probe.fit(train, None, 0)
    reference = Logistic(6, classes, {"C": [1 / (90 * 0.01)]})
    reference.fit(train, None, 0)
    assert np.allclose(said(probe, new.features), said(reference, new.features), atol=1e-3)


def test_a_linear_layer_counts_items_by_their_weight_and_takes_shares():
    """Where features say nothing, the probability is the weighted mean of the targets."""
    train = Items(np.zeros((4, 6), np.float32), np.array([0.0, 1.0, 0.25, 0.5]), np.array([3.0, 1.0, 2.0, 4.0]))
    probe = Linear(6, 2, {"lr": [1.0], "weight_decay": [0.0]}, steps=300, batch=4)
    probe.fit(train, None, 0)
    assert said(probe, train.features)[0, 0] == pytest.approx((0 * 3 + 1 * 1 + 0.25 * 2 + 0.5 * 4) / 10, abs=1e-4)


def test_the_setting_is_kept_that_does_best_on_validation_items():
    train = items(60, noise=1.5)
    best_for_one = Items(train.features, train.target)  # its own nearest neighbour is always right
    assert Neighbours(6, 2).fit(train, best_for_one, 0).settings == {"k": 1}
    turned = Items(train.features, 1 - train.target)  # and here always wrong
    choice = Neighbours(6, 2).fit(train, turned, 0)
    assert choice.settings != {"k": 1}
    assert choice.error == min(one["error"] for one in choice.tried)
    assert [one["k"] for one in choice.tried] == [1, 5, 10, 20, 50]  # 100 neighbours of 60 items cannot be asked


def test_the_error_of_a_choice_is_the_brier_score_of_what_is_predicted():
    train, new = items(60, 3), items(40, 3, seed=1)
    probe = Logistic(6, 3)
    choice = probe.fit(train, new, 0)
    brier = ((said(probe, new.features) - np.eye(3)[new.target.astype(int)]) ** 2).sum(1).mean()
    assert choice.error == pytest.approx(brier, rel=1e-5)


def test_a_class_that_no_training_item_has_is_never_predicted():
    train = items(40, 3)
    two = Items(train.features[train.target != 1], train.target[train.target != 1])
    probe = Logistic(6, 3, {"C": [1.0]})
    probe.fit(two, None, 0)
    found = said(probe, train.features)
    assert (found[:, 1] == 0).all()
    assert np.allclose(found.sum(1), 1)
    binary = LogisticRegression(C=1.0, tol=1e-6, max_iter=10_000)
    scale = StandardScaler().fit(two.features.astype(float))
    binary.fit(scale.transform(two.features.astype(float)), two.target)
    assert np.allclose(
        found[:, 2], binary.predict_proba(scale.transform(train.features.astype(float)))[:, 1], atol=1e-6
    )


@pytest.mark.parametrize("kind", [Neighbours, Logistic, Linear, Ridge])
def test_what_was_learned_comes_back_from_its_file(kind, tmp_path):
    options = {"steps": 20} if kind is Linear else {}
    classes = 0 if kind is Ridge else 2
    probe = kind(6, classes, **options)
    probe.fit(items(60), items(30, seed=1), 0)
    save_weights(tmp_path / "head.safetensors", probe)
    again = kind(6, classes, **options)
    load_weights(tmp_path / "head.safetensors", again)
    new = items(10, seed=2).features
    assert np.array_equal(said(again, new), said(probe, new))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Logistic(6, 2, {"c": [1.0]}), "it has: C"),
        (lambda: Logistic(6, 2, {"C": []}), "no value for 'C'"),
        (lambda: Logistic(6, 2, {"C": [0.0]}), "'C' must be more than 0"),
        (lambda: Neighbours(6, 2, {"k": [2.5]}), "whole number"),
        (lambda: Logistic(6, 2).fit(items(20), None, 0), "no validation items"),
        (lambda: Logistic(6, 2).fit(items(20, 3), items(9), 0), "a label is 2"),
        (lambda: Neighbours(6, 2).fit(Items(np.ones((4, 6), np.float32), np.ones(4)), items(9), 0), "nothing to tell"),
        (lambda: Ridge(6, 0).fit(Items(np.full((4, 6), np.nan, np.float32), np.ones(4)), items(9), 0), "not finite"),
        (lambda: Ridge(6, 0).fit(Items(np.ones((0, 6), np.float32), np.ones(0)), items(9), 0), "no labelled item"),
    ],
)
def test_what_cannot_be_fitted_is_refused(make, told):
    with pytest.raises(InputError, match=told):
        make()
