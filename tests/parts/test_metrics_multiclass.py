"""Metrics of several classes against scikit-learn, and their rules for classes that are not there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from medkit.evaluation.evaluate import stack
from medkit.parts.metrics_multiclass import MacroF1, MacroPrecision, MacroRecall, Top1
from medkit.parts.metrics_regression import MSE
from medkit.testing import check_metric


def measure(metric: Any, cases: list[dict[str, Any]]) -> float:
    return metric.compute(stack([row for row in map(metric.per_case, cases) if row is not None]))


def cases(true: list[int], said: list[int], classes: int) -> list[dict[str, Any]]:
    return [{"label": float(t), "class_probability": np.eye(classes)[s]} for t, s in zip(true, said, strict=True)]


@pytest.mark.parametrize(
    ("metric", "reference"), [(MacroF1(), f1_score), (MacroPrecision(), precision_score), (MacroRecall(), recall_score)]
)
def test_macro_averages_equal_scikit_learn_where_every_class_occurs(metric: Any, reference: Any) -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 7, 300)
    said = np.where(rng.random(300) < 0.6, true, rng.integers(0, 7, 300))
    found = measure(metric, cases(true.tolist(), said.tolist(), 7))
    assert found == pytest.approx(reference(true, said, average="macro"))


def test_top1_counts_images_not_classes() -> None:
    assert measure(Top1(), cases([0, 0, 0, 1], [0, 0, 1, 1], 2)) == 0.75


def test_macro_averages_count_rare_classes_like_frequent_ones() -> None:
    """Recall 9/10 of one class and 0/1 of the other."""
    assert measure(MacroRecall(), cases([0] * 10 + [1], [0] * 9 + [1, 0], 2)) == pytest.approx(0.45)


def test_classes_that_no_case_has_do_not_count() -> None:
    """Class 2 is said once but never true: it costs class 0 its recall, and no class of its own is averaged."""
    given = cases([0, 0, 1, 1], [0, 2, 1, 1], 5)
    assert measure(MacroRecall(), given) == pytest.approx((0.5 + 1) / 2)
    assert measure(MacroPrecision(), given) == 1.0


def test_a_class_that_was_never_said_has_precision_zero() -> None:
    assert measure(MacroPrecision(), cases([0, 1], [0, 0], 2)) == pytest.approx((0.5 + 0) / 2)


def test_the_first_of_equal_probabilities_is_said() -> None:
    assert Top1().per_case({"label": 0.0, "class_probability": np.array([0.5, 0.5])}) == {"class": 0, "said": 0}


def test_cases_without_a_class_are_left_out() -> None:
    assert Top1().per_case({"label": float("nan"), "class_probability": np.array([0.5, 0.5])}) is None


@pytest.mark.parametrize("metric", [Top1, MacroF1, MacroPrecision, MacroRecall, MSE])
def test_new_metrics_keep_every_promise_of_a_metric(metric: type) -> None:
    check_metric(metric)


def test_mse_equals_the_published_one(golden: Path) -> None:
    with np.load(golden / "metrics_cls_reg.npz") as arrays:
        given = [{"label": y, "value": p} for y, p in zip(arrays["age"], arrays["age_pred"], strict=True)]
        assert measure(MSE(), given) == pytest.approx(float(arrays["mse"]), rel=1e-6)


def test_an_undefined_average_is_nan() -> None:
    assert math.isnan(MacroF1().compute({"class": np.array([], int), "said": np.array([], int)}))
