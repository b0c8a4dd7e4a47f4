"""How often intervals hold the true value and tests are wrong, for more kinds of scores and more samples than by day."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from medkit.evaluation.bootstrap import bootstrap
from medkit.evaluation.statistics import bootstrap_test, delong, paired_t, wilcoxon
from medkit.parts.intervals import auc_interval, wilson
from medkit.parts.metrics_segmentation import DiceScore

SAMPLES = 1500


def level(rng: np.random.Generator, kind: str, patients: int) -> np.ndarray:
    if kind == "normal":
        return rng.normal(0, 1, patients)
    if kind == "dice":
        return rng.beta(4, 1, patients)
    return np.exp(rng.normal(0, float(kind), patients))


def true_mean(kind: str) -> float:
    return {"normal": 0.0, "dice": 0.8}.get(kind) or (math.exp(float(kind) ** 2 / 2) if kind[0].isdigit() else 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    ("kind", "patients", "least"),
    [
        ("normal", 6, 0.90),
        ("normal", 10, 0.91),
        ("normal", 30, 0.925),
        ("dice", 6, 0.87),
        ("dice", 10, 0.91),
        ("dice", 30, 0.92),
        ("0.5", 6, 0.87),
        ("0.5", 10, 0.87),
        ("0.5", 30, 0.915),
        ("1.2", 6, 0.74),
        ("1.2", 10, 0.78),
        ("1.2", 30, 0.85),
    ],
)
def test_means_are_held_as_often_as_the_docs_say(kind: str, patients: int, least: float, several: bool) -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(SAMPLES):
        sizes = rng.integers(1, 8, patients) if several else np.ones(patients, int)
        scores = np.repeat(level(rng, kind, patients), sizes)
        names = np.repeat(np.arange(patients), sizes).astype(str).tolist()
        found = bootstrap(DiceScore(), {"value": scores}, names)
        held += found.low <= true_mean(kind) <= found.high
    # Patients with more rows weigh more, so that there are fewer of them in effect.
    assert held / SAMPLES >= least - (0.04 if several else 0)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("patients", [8, 15, 40])
def test_shares_of_patients_with_several_rows_are_held(share: float, patients: int) -> None:
    """Patients of six rows each, whose own shares vary by a beta distribution."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(SAMPLES):
        own = rng.beta(6 * share, 6 * (1 - share), patients)
        low, high = wilson(rng.binomial(6, own).astype(float), np.full(patients, 6))
        held += low <= share <= high
    assert held / SAMPLES >= 0.92


@pytest.mark.slow
@pytest.mark.parametrize("auc", [0.6, 0.76, 0.92, 0.98])
@pytest.mark.parametrize(("positive", "negative"), [(5, 5), (10, 10), (30, 30)])
def test_areas_are_held(auc: float, positive: int, negative: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([1.0, 0.0], [positive, negative])
    held = 0
    for _ in range(SAMPLES):
        scores = labels * norm.ppf(auc) * math.sqrt(2) + rng.normal(0, 1, len(labels))
        low, high = auc_interval(scores, labels)
        held += low <= auc <= high
    assert held / SAMPLES >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("patients", [8, 15, 40])
@pytest.mark.parametrize("test", [paired_t, wilcoxon, bootstrap_test])
def test_paired_tests_without_a_difference_are_wrong_as_seldom_as_they_say(test: object, patients: int) -> None:
    assert callable(test)
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(SAMPLES):
        sizes = rng.integers(1, 6, patients)
        difference = np.repeat(rng.normal(0, 1, patients), sizes)
        names = np.repeat(np.arange(patients), sizes).astype(str).tolist()
        wrong += test(difference, 0 * difference, names).p < 0.05
    assert wrong / SAMPLES <= (0.16 if test is bootstrap_test else 0.085)


@pytest.mark.slow
def test_delong_by_patients_without_a_difference_is_wrong_as_seldom_as_it_says() -> None:
    rng = np.random.default_rng(0)
    labels, names = np.repeat([0.0, 1.0], 60), np.repeat(np.arange(30), 4).astype(str).tolist()
    wrong = 0
    for _ in range(SAMPLES):
        a, b = (labels + np.repeat(rng.normal(0, 1, 30), 4) + rng.normal(0, 0.3, 120) for _ in range(2))
        wrong += delong(a, b, labels, names).p < 0.05
    assert wrong / SAMPLES <= 0.08
