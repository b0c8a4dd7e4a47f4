"""Patients with unequal numbers of rows: intervals and tests keep their level, or there are none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from medkit.evaluation.statistics import bootstrap_test, delong, paired_t
from medkit.evaluation.values import value_of
from medkit.parts.intervals import in_effect, wilson
from medkit.parts.metrics_classification import AUC, Accuracy
from medkit.parts.metrics_segmentation import DiceScore

HALF = [4] * 14 + [56]  # the last of 15 patients has half of the rows
NEARLY_ALL = [1] * 7 + [200]


def drawn(sizes: list[int], seed: int) -> tuple[np.ndarray, list[str], np.random.Generator]:
    """A score of mean 0 for each row, alike in rows of one patient; and whose row each is."""
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(len(sizes)), sizes)
    scores = rng.normal(size=len(sizes))[index] + rng.normal(size=len(index))
    return scores, [f"p{i}" for i in index], rng


def test_patients_in_effect_are_those_there_are_if_all_have_equally_many_rows() -> None:
    assert in_effect(np.full(9, 7)) == pytest.approx(9)
    assert in_effect(np.array([200, *[1] * 7])) == pytest.approx(207**2 / 40007)


def test_paired_t_is_seldom_wrong_where_one_patient_has_half_of_the_rows() -> None:
    wrong = 0
    for seed in range(400):
        scores, patients, _ = drawn(HALF, seed)
        wrong += paired_t(scores, np.zeros(len(scores)), patients).p < 0.05
    assert wrong / 400 <= 0.09  # 0.22 with one degree of freedom fewer than patients


def test_an_auc_s_interval_holds_where_one_patient_has_half_of_the_rows() -> None:
    held = 0
    for seed in range(300):
        scores, patients, rng = drawn(HALF, seed)
        labels = rng.integers(0, 2, len(scores)).astype(float)
        # How well classes are told apart differs from patient to patient, and averages to nothing.
        rows = {"label": labels, "probability": scores * (2 * labels - 1)}
        found = value_of(AUC(), rows, patients, 0, True)
        held += found.low <= 0.5 <= found.high
    assert held / 300 >= 0.93  # 0.82 by the normal distribution


def test_an_accuracy_s_interval_holds_where_one_patient_has_half_of_the_rows() -> None:
    held = 0
    for seed in range(300):
        scores, patients, _ = drawn(HALF, seed)
        rows = {"label": np.ones(len(scores)), "probability": (scores > 0).astype(float)}
        found = value_of(Accuracy(), rows, patients, 0, True)
        held += found.low <= 0.5 <= found.high
    assert held / 300 >= 0.91  # 0.81 by the number of patients


@pytest.mark.parametrize("metric", [AUC(), Accuracy(), DiceScore()])
def test_there_is_no_interval_where_one_patient_has_nearly_all_rows(metric: Any) -> None:
    scores, patients, rng = drawn(NEARLY_ALL, 0)
    rows = {"label": rng.integers(0, 2, len(scores)), "probability": scores, "value": scores}
    found = value_of(metric, rows, patients, 0, True)
    assert math.isfinite(found.value)
    assert math.isnan(found.low)
    assert found.method == "no interval: one of 8 patients has 97 % of the rows"


def test_there_is_no_test_where_one_patient_has_nearly_all_rows() -> None:
    scores, patients, rng = drawn(NEARLY_ALL, 0)
    nothing, labels = np.zeros(len(scores)), rng.integers(0, 2, len(scores))
    tests = [paired_t(scores, nothing, patients), bootstrap_test(scores, nothing, patients)]
    for found in [*tests, delong(scores, rng.random(len(scores)), labels, patients)]:
        assert math.isnan(found.p)
        assert found.why == "one of 8 patients has 97 % of the rows"


def test_a_share_of_rows_nearly_all_of_one_patient_can_be_anything() -> None:
    low, high = wilson(np.array([10**6 // 2, 1, 0, 1, 0, 1]), np.array([10**6, 1, 1, 1, 1, 1]))
    assert low < 0.01
    assert high > 0.99


def test_differences_too_small_to_be_squared_have_no_p() -> None:
    found = paired_t(np.arange(8.0) * 1e-200, np.zeros(8))
    assert math.isnan(found.p)
    assert "squares are 0" in found.why
