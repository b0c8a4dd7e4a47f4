"""Intervals by patients: how often they hold the true value, what they do where little is known, how they are drawn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, norm

from medkit.evaluation.bootstrap import MANY, bootstrap, resamples, summed
from medkit.evaluation.evaluate import _value
from medkit.parts.intervals import auc_interval, numbered, placement_variance, placements, wilson
from medkit.parts.metrics_classification import AUC, F1, Accuracy
from medkit.parts.metrics_multiclass import MacroF1, Top1
from medkit.parts.metrics_regression import MAE, MSE, R2
from medkit.parts.metrics_segmentation import DiceScore, FalsePositiveVolume


def names(count: int, each: int = 1) -> list[str]:
    return [f"p{i // each}" for i in range(count * each)]


def sample(rng: np.random.Generator, kind: str, patients: int, each: int) -> tuple[np.ndarray, float]:
    """Scores whose patients have a level of their own, and the true mean of such scores."""
    level = rng.normal(0, 1, patients) if kind == "normal" else np.exp(rng.normal(0, 0.5, patients))
    scores = np.repeat(level, each) + (rng.normal(0, 0.3, patients * each) if each > 1 else 0)
    return scores, 0.0 if kind == "normal" else math.exp(0.125)


def coverage(interval: Any, kind: str, patients: int, each: int, samples: int) -> float:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(samples):
        scores, true = sample(rng, kind, patients, each)
        low, high = interval(scores, names(patients, each))
        held += low <= true <= high
    return held / samples


def ours(scores: np.ndarray, patients: list[str]) -> tuple[float, float]:
    found = bootstrap(DiceScore(), {"value": scores}, patients, draws=1000)
    return found.low, found.high


def percentile(scores: np.ndarray, patients: list[str]) -> tuple[float, float]:
    """Plain percentiles of bootstrapped means of patients."""
    index, count = numbered(patients)
    means = np.bincount(index, scores) / np.bincount(index)
    drawn = means[np.random.default_rng(0).integers(count, size=(1000, count))].mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize(
    ("kind", "patients", "each", "least"),
    [
        ("normal", 6, 1, 0.90),
        ("normal", 10, 1, 0.91),
        ("normal", 30, 1, 0.92),
        ("lognormal", 6, 1, 0.86),
        ("lognormal", 10, 1, 0.87),
        ("lognormal", 30, 1, 0.91),
        ("normal", 10, 5, 0.91),
        ("lognormal", 10, 5, 0.86),
    ],
)
def test_a_95_percent_interval_of_few_patients_holds_the_true_mean(
    kind: str, patients: int, each: int, least: float
) -> None:
    """The least is 0.95, or what skewed scores of few patients allow any interval, less two standard errors."""
    assert coverage(ours, kind, patients, each, 300) >= least


def test_the_interval_of_six_patients_holds_more_often_than_plain_percentiles() -> None:
    assert coverage(ours, "lognormal", 6, 1, 300) >= coverage(percentile, "lognormal", 6, 1, 300) + 0.05


@pytest.mark.parametrize("auc", [0.76, 0.92])
def test_the_interval_of_an_auc_holds_the_true_area_also_where_classes_separate(auc: float) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0.0, 1.0], 10)
    held = 0
    for _ in range(400):
        low, high = auc_interval(labels * norm.ppf(auc) * math.sqrt(2) + rng.normal(0, 1, 20), labels)
        held += low <= auc <= high
    assert 0.93 <= held / 400 <= 0.995


def test_the_interval_of_an_auc_by_patients_holds_where_rows_of_a_patient_are_alike() -> None:
    """30 patients with 8 slices each, all of a kind: independent rows would hold the true area about half of the time."""
    rng = np.random.default_rng(0)
    labels, patients = np.repeat([0.0, 1.0], 120), np.repeat(np.arange(30), 8)
    held = np.zeros(2)
    for _ in range(200):
        level = np.repeat(rng.normal(0, 1, 30), 8) + rng.normal(0, 0.3, 240)
        scores = level + labels * norm.ppf(0.8) * math.sqrt(2 * 1.09)
        for i, those in enumerate((patients, None)):
            low, high = auc_interval(scores, labels, those)
            held[i] += low <= 0.8 <= high
    assert held[0] / 200 >= 0.90
    assert held[1] / 200 <= 0.75


def test_obuchowski_s_variance_is_delong_s_where_every_row_is_a_patient() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(50) < 0.4).astype(float)
    _, v10, v01 = placements(rng.normal(0, 1, 50) + labels, labels)
    alone = placement_variance(v10, v01, labels)
    # Two rows of a patient that say the same are one row: half of all rows carry the information.
    twice = placement_variance(np.repeat(v10, 2), np.repeat(v01, 2), np.repeat(labels, 2), np.repeat(np.arange(50), 2))
    assert twice == pytest.approx(alone)


def test_separated_classes_have_an_interval_that_is_no_point() -> None:
    """Ten separated cases: Newcombe's bound is where the area is 1.96 of its own standard errors below 1."""
    low, high = auc_interval(np.arange(10.0), np.repeat([0.0, 1.0], 5))
    spread = 1 + 4 * (1 - low) / (2 - low) + 4 * low / (1 + low)
    assert 1 - low == pytest.approx(norm.ppf(0.975) * math.sqrt(low * (1 - low) * spread / 25), abs=1e-6)
    assert high == 1
    assert 0.5 < low < 0.75


def test_f1_of_all_right_is_no_point_and_counts_positives_only() -> None:
    """F1 = 2 J / (1 + J) with J = 7 of 7; Wilson's bound for 7 of 7 is 7 / (7 + 1.96^2)."""
    rows = [{"label": float(i < 7), "probability": 0.9 if i < 7 else 0.1} for i in range(20)]
    found = _value(F1(), rows, names(20), 0, True)
    share = 7 / (7 + norm.ppf(0.975) ** 2)
    assert (found.low, found.high) == (pytest.approx(2 * share / (1 + share)), 1.0)


def test_wilson_of_patients_with_one_row_each_is_the_plain_one() -> None:
    right = np.array([1.0] * 7 + [0.0] * 3)
    z = norm.ppf(0.975)
    middle, half = (0.7 + z**2 / 20) / (1 + z**2 / 10), z / (1 + z**2 / 10) * math.sqrt(0.021 + z**2 / 400)
    assert wilson(right, np.ones(10)) == pytest.approx((middle - half, middle + half))


@pytest.mark.parametrize("patients", [1, 2, 5])
def test_fewer_than_six_patients_have_no_interval_whatever_the_metric(patients: int) -> None:
    for metric, row in (
        (DiceScore(), {"value": 0.5}),
        (Accuracy(), {"label": 1.0, "probability": 0.9}),
        (Top1(), {"class": 1, "said": 1}),
    ):
        found = _value(metric, [row] * (10 * patients), names(patients, 10), 0, True)
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        assert found.n_patients == patients
        assert f"{patients} patient" in found.method


def test_scores_that_are_all_the_same_have_no_interval() -> None:
    found = bootstrap(MAE(), {"value": np.ones(20), "label": np.zeros(20)}, names(20))
    assert math.isnan(found.low)
    assert "the same in every draw" in found.method


def test_undefined_draws_are_left_out_and_counted() -> None:
    """Two of eight patients alone vary: without them R2 is not defined, in (6/8)^8 of the draws."""
    label = np.array([0.0, 1.0] + [0.5] * 6)
    found = bootstrap(R2(), {"label": label, "value": label * 0.9}, names(8))
    assert found.undefined / 4000 == pytest.approx(0.75**8, abs=0.02)


def test_a_metric_that_most_draws_leave_undefined_has_no_interval() -> None:
    class Rare:
        def compute(self, rows: Any) -> float:
            return float(rows["x"].mean()) if {0.0, 1.0} <= set(rows["x"]) else float("nan")

    found = bootstrap(Rare(), {"x": np.linspace(1, 0, 20)}, names(20))
    assert math.isnan(found.low)
    assert "undefined in" in found.method


@pytest.mark.parametrize("each", [1, 3])
@pytest.mark.parametrize("metric", [AUC(), F1(), Accuracy(), MAE(), MSE(), R2(), DiceScore(), Top1(), MacroF1()])
def test_a_bootstrap_of_sums_or_of_prepared_rows_is_that_of_the_rows_themselves(metric: Any, each: int) -> None:
    rng = np.random.default_rng(0)
    n = 40 * each
    rows = {
        "label": (rng.random(n) < 0.5).astype(float),
        "probability": np.round(rng.random(n), 1),
        "value": rng.normal(0, 1, n),
        "class": rng.integers(0, 4, n),
        "said": rng.integers(0, 4, n),
    }

    class Plain:
        compute = metric.compute

    fast, slow = (bootstrap(m, rows, names(40, each), draws=200) for m in (metric, Plain()))
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high))


def test_the_sum_of_false_positives_has_an_interval_around_the_sum() -> None:
    rng = np.random.default_rng(0)
    metric = FalsePositiveVolume(aggregate="sum")
    rows = {"value": rng.random(30)}
    found = bootstrap(metric, rows, names(30))
    assert found.low < metric.compute(rows) < found.high
    assert found.low > 5


def test_all_metrics_see_the_same_draws() -> None:
    counts = np.concatenate(list(resamples(9, 50)))
    assert counts.sum(1).tolist() == [9] * 50
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(counts, [np.bincount(rng.integers(9, size=9), minlength=9) for _ in range(50)])


def test_counts_of_many_patients_are_those_of_patients_drawn_one_by_one() -> None:
    count, draws = MANY, 400
    counts = np.concatenate(list(resamples(count, draws)))
    assert (counts.sum(1, dtype=int) == count).all()
    found = np.bincount(counts.ravel(), minlength=7)[:7] / counts.size
    np.testing.assert_allclose(found, binom.pmf(np.arange(7), count, 1 / count), atol=5e-4)
    # Any half of the patients is drawn as often as heads fall, with as much spread.
    half = counts[:, np.random.default_rng(1).random(count) < 0.5]
    share = half.shape[1] / count
    assert abs(half.sum(1).mean() / count - share) < 1e-3
    assert half.sum(1).std() / math.sqrt(count * share * (1 - share)) == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize("each", [1, 3])
@pytest.mark.parametrize("metric", [MAE(), R2(), MacroF1()])
def test_the_order_of_rows_changes_no_interval(metric: Any, each: int) -> None:
    rng = np.random.default_rng(0)
    patients, order = np.array(names(30, each)), rng.permutation(30 * each)
    rows = {"label": rng.normal(0, 1, len(order)), "value": rng.normal(0, 1, len(order))}
    rows |= {name: rng.integers(0, 4, len(order)) for name in ("class", "said")}
    found = bootstrap(metric, rows, patients.tolist())
    again = bootstrap(metric, {name: column[order] for name, column in rows.items()}, patients[order].tolist())
    assert (found.low, found.high) == pytest.approx((again.low, again.high))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("unit", [1e-30, 1e150])
def test_an_interval_follows_the_unit_however_small_or_large(unit: float) -> None:
    error = np.random.default_rng(0).normal(0, 1, 30)
    plain, other = (bootstrap(MAE(), {"label": 0 * error, "value": error * by}, names(30)) for by in (1, unit))
    assert (other.low / unit, other.high / unit) == pytest.approx((plain.low, plain.high))


def test_sums_of_draws_are_those_of_all_patients_at_once() -> None:
    sums = np.random.default_rng(0).normal(0, 1, (30_000, 3))
    chunk = next(resamples(30_000, 20))
    np.testing.assert_allclose(summed(chunk, sums), chunk.astype(float) @ sums, atol=1e-9)


def test_draws_of_very_many_patients_are_not_held_in_memory() -> None:
    chunk = next(resamples(2_000_000, 1000))
    assert chunk.nbytes < 2**22
