"""Measures of features without a task, on features whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from medkit.evaluation.representations import (
    alignment,
    effective_rank,
    jackknife,
    linear_cka,
    rankme,
    uniformity,
)


def test_ranks_count_directions_of_equal_strength():
    basis = np.kron(np.eye(5), np.ones((4, 1)))  # 20 images, each along one of five axes
    features = np.concatenate([basis, np.zeros((20, 3))], 1)
    assert rankme(features) == pytest.approx(5, abs=1e-3)
    assert effective_rank(features) == pytest.approx(4, abs=1e-3)  # centring takes one of them


def test_a_collapsed_encoder_has_rank_one():
    features = np.ones((30, 8)) * np.arange(1, 9)
    assert rankme(features) == pytest.approx(1, abs=1e-3)
    assert uniformity(features) == pytest.approx(0, abs=1e-9)


def test_alignment_is_the_squared_distance_on_the_sphere():
    first, second = np.array([[3.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 5.0], [2.0, 0.0]])
    assert alignment(first, second) == pytest.approx((2 + 0) / 2)
    assert alignment(first, -first) == pytest.approx(4)


def test_uniformity_of_opposite_points_is_that_of_their_distance():
    assert uniformity(np.array([[1.0, 0.0], [-3.0, 0.0]])) == pytest.approx(-8)


def test_cka_ignores_rotation_and_scale_and_sees_unrelated_features():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 6))
    rotation, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    assert linear_cka(features, 3 * features @ rotation + 7) == pytest.approx(1)
    assert linear_cka(features, rng.normal(size=(200, 6))) < 0.1
    assert np.isnan(linear_cka(features, np.ones((200, 2))))


def test_the_jackknife_of_a_mean_is_its_standard_error_over_patients():
    values = np.arange(10.0)
    value, low, high = jackknife(lambda x: float(x.mean()), [values], [f"p{i}" for i in range(10)])
    error = values.std(ddof=1) / np.sqrt(10)
    assert (value, high - value) == (4.5, pytest.approx(1.96 * error))
    assert value - low == pytest.approx(high - value)


def test_there_is_no_interval_of_few_patients():
    _, low, _ = jackknife(lambda x: float(x.mean()), [np.arange(9.0)], ["a", "b", "c"] * 3)
    assert np.isnan(low)
