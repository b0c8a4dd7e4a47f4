"""Metrics of one mask, and of each class if masks have several."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from medkit.parts.intervals import few_of_class
from medkit.parts.metrics_sums import MeanMetric

Rows = Mapping[str, np.ndarray]


class MaskMetric(MeanMetric):
    """A number of the true and the predicted mask of a case, averaged over cases.

    If the data block has classes, it is measured for each of them, as ``NAME_CLASS``, and averaged over them.
    """

    name: str
    unit: str
    higher_is_better: bool
    empty: str
    number: int | None = None
    """Which class it measures; None: a mask without classes."""
    known: Known | None = None
    """What the metrics of the same classes have measured for a case."""

    @abstractmethod
    def of_masks(self, truth: np.ndarray, said: np.ndarray, case: Mapping[str, Any]) -> float | None:
        """The number for two masks (D,h,w) bool, or None if the truth leaves it undefined."""

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        return self.measured(case) if self.known is None else self.known.row(self, case)

    def measured(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        """The row of a case, measured afresh."""
        if self.number is None:
            truth, said = np.asarray(case["mask"]) > 0, np.asarray(case["mask_probability"]) > 0.5
        else:
            truth, said = case["class_masks"][self.number], case["class_masks_said"][self.number]
        found = self.of_masks(truth, said, case)
        return None if found is None else {"value": found}

    def each(self, rows: Rows) -> np.ndarray:
        return rows["value"]

    def score(self, row: Mapping[str, Any]) -> float:
        return float(row["value"])

    def of_classes(self, names: Sequence[str]) -> list[Any]:
        """The mean over classes, and the number of each."""
        known = Known()
        each = [self._of_class(number, name, known) for number, name in enumerate(names)]
        return [ClassMean(self, each), *each]

    def _of_class(self, number: int, name: str, known: Known) -> MaskMetric:
        one = copy.copy(self)
        one.name, one.number, one.known = f"{self.name}_{name}", number, known
        one.empty = self.empty.replace("truth", f"true {name}")
        return one


class Known:
    """Rows of the case measured last, by class: the mean over classes takes what each of them has found."""

    def __init__(self) -> None:
        self._case: Any = None
        self._rows: dict[int, dict[str, Any] | None] = {}

    def row(self, metric: MaskMetric, case: Mapping[str, Any]) -> dict[str, Any] | None:
        """The row of a metric of one class."""
        said = case["class_masks_said"]
        if said is not self._case:
            self._case, self._rows = said, {}
        number = metric.number
        assert number is not None
        if number not in self._rows:
            self._rows[number] = metric.measured(case)
        return self._rows[number]


class ClassMean:
    """The mean over classes of a metric's numbers, each the mean over the cases that have one.

    A class without any such case is left out. A case's own value is the mean over its classes.
    """

    def __init__(self, metric: MaskMetric, each: Sequence[MaskMetric]) -> None:
        self.name, self.unit, self.higher_is_better = metric.name, metric.unit, metric.higher_is_better
        self.empty = f"of each class: {metric.empty}"
        self._each = list(each)

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        rows = [one.per_case(case) for one in self._each]
        if all(row is None for row in rows):
            return None
        scores = [np.nan if row is None else one.score(row) for one, row in zip(self._each, rows, strict=True)]
        return {f"class{i}": score for i, score in enumerate(scores)}

    def compute(self, rows: Rows) -> float:
        count = len(next(iter(rows.values()), ()))
        return self.weighted(rows)(np.ones(count)) if count else float("nan")

    def weighted(self, rows: Rows) -> Callable[[np.ndarray], float]:
        """The mean as a function of how often each row counts."""
        values = np.stack([rows[f"class{i}"] for i in range(len(self._each))], 1)
        there, filled = (~np.isnan(values)).astype(float), np.nan_to_num(values)

        def mean(times: np.ndarray) -> float:
            times = np.asarray(times, float)  # draws are bytes, too small for their sums
            counts = times @ there
            known = counts > 0
            return float(((times @ filled)[known] / counts[known]).mean()) if known.any() else float("nan")

        return mean

    def score(self, row: Mapping[str, Any]) -> float:
        values = np.array(list(row.values()), float)
        return float(np.nanmean(values))

    def lacks(self, rows: Rows, patients: Sequence[str]) -> str:
        """Why there is no interval: too few patients who have one of the classes, which counts as much as any other."""
        names = np.asarray(patients)
        for i, one in enumerate(self._each):
            if why := few_of_class(one.name, names[~np.isnan(rows[f"class{i}"])]):
                return why
        return ""
