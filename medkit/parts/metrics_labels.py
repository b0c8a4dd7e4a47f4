"""Metrics of declared labels by class: each against all others, and their mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from medkit.parts.intervals import few_of_class
from medkit.parts.metrics_classification import AUC, AveragePrecision, Specificity
from medkit.protocols.labels import Labels

Rows = Mapping[str, np.ndarray]


def each_class(metric: Any, labels: Labels, name: str) -> list[Any]:
    """A yes-or-no metric, for each class, as ``NAME_CLASS``."""
    return [metric.of_class(labels, number, name) for number in range(len(labels))]


class LabelMean:
    """The mean over classes of a number that each has over the cases for which it is known.

    A class for which it is undefined, as an AUC is without a positive case, is left out.
    """

    unit = ""

    def __init__(self, name: str, each: Sequence[Any]) -> None:
        self.name, self.higher_is_better = name, each[0].higher_is_better
        self.empty = "cases of which no class is known are left out; classes in which it is undefined do not count"
        self._each = list(each)

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        rows = [one.per_case(case) for one in self._each]
        if all(row is None for row in rows):
            return None
        found = {}
        for i, row in enumerate(rows):
            for key in ("label", "probability"):
                found[f"{key}{i}"] = np.nan if row is None else row[key]
        return found

    def compute(self, rows: Rows) -> float:
        count = len(next(iter(rows.values()), ()))
        return self.weighted(rows)(np.ones(count)) if count else float("nan")

    def weighted(self, rows: Rows) -> Callable[[np.ndarray], float]:
        """The mean as a function of how often each row counts."""
        each = [self._of(i, rows) for i in range(len(self._each))]

        def mean(times: np.ndarray) -> float:
            values = np.array([one(times) for one in each])
            known = np.isfinite(values)
            return float(values[known].mean()) if known.any() else float("nan")

        return mean

    def lacks(self, rows: Rows, patients: Sequence[str]) -> str:
        """Why there is no interval: too few patients of a class that counts."""
        names = np.asarray(patients)
        for i, metric in enumerate(self._each):
            known, own = self._known(i, rows)
            if not known.any() or not math.isfinite(metric.compute(own)):
                continue
            if hasattr(metric, "lacks") and (why := metric.lacks(own, names[known].tolist())):
                return f"{metric.name}: {why}"
            counted = np.asarray(metric.among(own), bool) if hasattr(metric, "among") else np.ones(known.sum(), bool)
            if why := few_of_class(metric.name, names[known][counted]):
                return why
        return ""

    def _known(self, i: int, rows: Rows) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Which rows (n,) tell a class, and these rows of it."""
        known = ~np.isnan(rows[f"label{i}"])
        return known, {key: rows[f"{key}{i}"][known] for key in ("label", "probability")}

    def _of(self, i: int, rows: Rows) -> Callable[[np.ndarray], float]:
        known, own = self._known(i, rows)
        metric = self._each[i]
        if not known.any():
            return lambda times: float("nan")
        if hasattr(metric, "of_sums"):
            terms = metric.terms(own)
            # Draws are bytes, too small for their sums.
            return lambda times: float(metric.of_sums(np.asarray(times, float)[known] @ terms))
        weighted: Callable[[np.ndarray], float] = metric.weighted(own)
        return lambda times: weighted(times[known])

    def score(self, row: Mapping[str, Any]) -> float:
        return float("nan")


class _ByClass:
    """A mean over classes, each against all others; for declared labels with each class's number beside it."""

    name: str
    unit = ""
    higher_is_better = True
    empty = "cases without a class are left out; classes in which it is undefined do not count"
    label_kinds = ("one_of", "any_of", "ordered")
    binary: Any
    single: str

    def of_labels(self, labels: Labels) -> list[Any]:
        each = each_class(self.binary(), labels, self.single)
        return [LabelMean(self.name, each), *each]

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        label, each = float(case["label"]), np.asarray(case["class_probability"], float)
        if np.isnan(label):
            return None
        if self.binary.decides:
            each = (np.arange(len(each)) == each.argmax()).astype(float)
        row = {f"label{number}": float(label == number) for number in range(len(each))}
        return row | {f"probability{number}": p for number, p in enumerate(each.tolist())}

    def compute(self, rows: Rows) -> float:
        return self._mean(rows).compute(rows) if rows else float("nan")

    def weighted(self, rows: Rows) -> Callable[[np.ndarray], float]:
        """The mean as a function of how often each row counts."""
        return self._mean(rows).weighted(rows)

    def lacks(self, rows: Rows, patients: Sequence[str]) -> str:
        """Why there is no interval: too few patients of a class that counts."""
        return self._mean(rows).lacks(rows, patients)

    def _mean(self, rows: Rows) -> LabelMean:
        return LabelMean(self.name, [self.binary() for _ in range(len(rows) // 2)])

    def score(self, row: Mapping[str, Any]) -> float:
        return float("nan")


class MacroAUC(_ByClass):
    """Area under the ROC curve of each class against all others, and its mean over classes."""

    name = "macro_auc"
    binary, single = AUC, "auc"


class MacroAP(_ByClass):
    """Average precision of each class against all others, and its mean over classes."""

    name = "macro_ap"
    binary, single = AveragePrecision, "ap"


class MacroSpecificity(_ByClass):
    """Specificity of each class against all others, and its mean over classes."""

    name = "macro_specificity"
    binary, single = Specificity, "specificity"
