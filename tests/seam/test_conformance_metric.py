"""Each promise of a metric is checked on cases of the evaluator: a sound one passes, a broken promise is named."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from medkit.parts.metrics_sums import MeanMetric
from medkit.testing import check_metric, example_cases


class VolumeError(MeanMetric):
    """Error of the volume, in microlitres."""

    name, unit, higher_is_better, empty = "volume_error", "uL", False, "none"
    needs = ("mask", "mask_probability", "slice_volumes")

    def per_case(self, case: Any) -> Any:
        wrong = (case["mask_probability"] > 0.5).sum((1, 2)) - case["mask"].astype(int).sum((1, 2))
        return {"x": abs(float(wrong @ case["slice_volumes"]))}

    def each(self, rows: Any) -> Any:
        return rows["x"]

    def score(self, row: Any) -> float:
        return float(row["x"])


class Random(VolumeError):
    """Differs from call to call."""

    def per_case(self, case: Any) -> Any:
        return {"x": random.random()}


class Relative(VolumeError):
    """Relative to the largest error so far."""

    largest = 1e-9

    def per_case(self, case: Any) -> Any:
        error = super().per_case(case)["x"]
        self.largest = max(self.largest, error)
        return {"x": error / self.largest}


class Changes(VolumeError):
    """Rounds the prediction in place."""

    def per_case(self, case: Any) -> Any:
        np.round(case["mask_probability"], out=case["mask_probability"])
        return super().per_case(case)


class Stranger(VolumeError):
    """Needs what nobody gives."""

    needs = ()

    def per_case(self, case: Any) -> Any:
        return {"x": float(case["pixel_area"])}


class Declared(VolumeError):
    """Says that it needs what nobody gives."""

    needs = ("pixel_area",)


class Ragged(VolumeError):
    """Rows of different keys."""

    def per_case(self, case: Any) -> Any:
        return {"x": 1.0} if case["label"] else {"x": 1.0, "y": 2.0}


class First(VolumeError):
    """The number of whichever case is first."""

    def compute(self, rows: Any) -> float:
        return float(rows["x"][0])


class Taking(VolumeError):
    """Extras in the place of the number."""

    def extras(self, rows: Any) -> Any:
        return {"n": 3.0}


class Otherwise(VolumeError):
    """Sums that are another number."""

    def of_sums(self, sums: Any) -> Any:
        return sums[..., 0]


class Sorting(VolumeError):
    """Sorts its rows in place."""

    def compute(self, rows: Any) -> float:
        rows["x"].sort()
        return float(np.mean(rows["x"]))


class Grids(VolumeError):
    """Takes the prepared image for one on the source grid."""

    def per_case(self, case: Any) -> Any:
        return {"x": float(case["image"][case["mask"] > 0].sum())}


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (Random, "differs for the same case"),
        (Relative, "differs for the same case.* nor remember other cases"),
        (Changes, "changes the case"),
        (Stranger, "needs 'pixel_area', which no evaluation gives"),
        (Declared, "needs 'pixel_area'"),
        (Ragged, "do not stack"),
        (First, "order of the cases"),
        (Taking, "'n' would replace"),
        (Otherwise, "differs from compute"),
        (Sorting, "changes its rows"),
    ],
)
def test_a_metric_that_breaks_a_promise_is_told_which(metric: type, message: str) -> None:
    check_metric(VolumeError)
    with pytest.raises(AssertionError, match=message):
        check_metric(metric)


def test_a_metric_that_mixes_the_source_s_and_the_prepared_grid_fails() -> None:
    with pytest.raises(IndexError):
        check_metric(Grids)


def test_example_cases_have_the_geometry_of_a_scan() -> None:
    cases = example_cases()
    np.testing.assert_allclose(cases[0]["spacing"], [5, 0.5, 0.4])
    np.testing.assert_allclose(cases[0]["slice_volumes"], [1.0, 1.0, 1.0])
    np.testing.assert_allclose(cases[-1]["slice_volumes"], [1.0, 1.25, 1.5])
    assert {case["label"] for case in cases} == {0.0, 1.0}
