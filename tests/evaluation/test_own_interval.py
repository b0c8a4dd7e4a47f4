"""A metric's own interval: shown if it can be one of the number beside it, refused with the metric's name if not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from medkit.errors import RunError
from medkit.evaluation.values import value_of
from medkit.parts.metrics_sums import MeanMetric
from medkit.testing import check_metric

PATIENTS = [f"p{i}" for i in range(10)]
ROWS = {"x": np.arange(10) / 10}  # their mean is 0.45


class Own(MeanMetric):
    """The mean, with ends that it is given."""

    name, unit, higher_is_better, empty = "own", "", True, "none"

    def __init__(self, ends: Any) -> None:
        self.ends = ends

    def each(self, rows: Any) -> np.ndarray:
        return np.asarray(rows["x"])

    def per_case(self, case: Any) -> dict[str, Any]:
        return {"x": float(case["probability"])}

    def score(self, row: Any) -> float:
        return float(row["x"])

    def interval(self, rows: Any, patients: Any) -> Any:
        return self.ends


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((0.9, 0.1), "goes from 0.9 to 0.1, so its ends are reversed"),
        ((5, 6), "goes from 5 to 6, and its value is 0.45, outside of it"),
        ((0.1, math.inf), "goes from 0.1 to inf, which is not finite"),
        ((math.nan, 0.9), "goes from nan to 0.9, which is not finite"),
        ((0.1, 0.2, 0.9), "not two numbers"),
        ("ab", "not two numbers"),
    ],
)
def test_an_own_interval_that_cannot_be_one_of_its_value_is_refused(ends: Any, said: str) -> None:
    with pytest.raises(RunError, match=said) as caught:
        value_of(Own(ends), ROWS, PATIENTS, 0, True)
    assert "metric 'own'" in str(caught.value)


class Reversed(Own):
    """The mean, with ends the wrong way round."""

    def __init__(self) -> None:
        super().__init__((0.9, 0.1))


def test_the_check_for_authors_of_metrics_says_the_same() -> None:
    with pytest.raises(AssertionError, match="so its ends are reversed"):
        check_metric(Reversed)


def test_an_own_interval_around_its_value_is_shown() -> None:
    found = value_of(Own((0.2, 0.45)), ROWS, PATIENTS, 0, True)
    assert (found.low, found.high, found.method) == (0.2, 0.45, "the metric's own")


def test_a_metric_may_say_that_it_has_no_interval() -> None:
    found = value_of(Own((math.nan, math.nan)), ROWS, PATIENTS, 0, True)
    assert math.isnan(found.low)
    assert found.method == "no interval: too few cases of a kind"
