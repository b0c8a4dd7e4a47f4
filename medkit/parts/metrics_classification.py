"""Metrics of yes-or-no decisions, from a probability and a label a case. 0.5 rounds to no."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from medkit.parts.intervals import auc_interval, numbered, wilson
from medkit.parts.metrics_sums import SumMetric, divided

Rows = Mapping[str, np.ndarray]


class _Binary:
    unit = ""
    higher_is_better = True
    empty = "cases without a label are left out"
    name = ""

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        label = float(case["label"])
        if np.isnan(label):
            return None
        return {"label": label, "probability": float(case["probability"])}

    def score(self, row: Mapping[str, Any]) -> float:
        return float("nan")


class AUC(_Binary):
    """Area under the ROC curve by ranks, ties counted half; undefined (nan) when only one class is there."""

    name = "auc"
    interval_method = "DeLong"

    def compute(self, rows: Rows) -> float:
        yes = rows["label"] > 0
        n, m = int(yes.sum()), int((~yes).sum())
        if n == 0 or m == 0:
            return float("nan")
        ranks = rankdata(rows["probability"])
        return float((ranks[yes].sum() - n * (n + 1) / 2) / (n * m))

    def weighted(self, rows: Rows) -> Callable[[np.ndarray], float]:
        """The area as a function of how often each row counts; scores are sorted once for all."""
        values, place = np.unique(rows["probability"], return_inverse=True)
        code = 2 * place + (rows["label"] > 0)

        def area(times: np.ndarray) -> float:
            negative, positive = np.bincount(code, times, 2 * len(values)).reshape(-1, 2).T
            above = 2 * np.cumsum(negative) - negative
            return float(divided(positive @ above, 2 * float(positive.sum()) * float(negative.sum())))

        return area

    def interval(self, rows: Rows, patients: Sequence[str]) -> tuple[float, float]:
        """DeLong's 95 % interval on the scale of the logit, by patients; it is not a point for separated classes."""
        return auc_interval(rows["probability"], rows["label"], numbered(patients)[0])


class _Ratio(_Binary, SumMetric):
    """A ratio of true positives, false positives, false negatives and true negatives."""

    empty = "cases without a label are left out; undefined when the denominator is 0"
    interval_method = "Wilson"

    @abstractmethod
    def ratio(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        """Numerator and denominator."""

    def terms(self, rows: Rows) -> np.ndarray:
        yes, said = rows["label"] > 0, np.round(rows["probability"]) > 0
        return np.stack([yes & said, ~yes & said, yes & ~said, ~yes & ~said], 1).astype(float)

    def of_sums(self, sums: np.ndarray) -> np.ndarray:
        return divided(*self.ratio(*np.moveaxis(sums, -1, 0)))

    def interval(self, rows: Rows, patients: Sequence[str]) -> tuple[float, float]:
        """Wilson's 95 % interval, by patients (:func:`medkit.parts.intervals.wilson`)."""
        index, count = numbered(patients)
        each = [np.bincount(index, column, count) for column in self.terms(rows).T]
        return self.of_share(wilson(*self.share(*each)))

    def share(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        """How many of how many rows: what the interval is made of."""
        return self.ratio(tp, fp, fn, tn)

    def of_share(self, interval: tuple[float, float]) -> tuple[float, float]:
        """The metric's interval from that of the share."""
        return interval


class F1(_Ratio):
    """F1 score, 2 TP / (2 TP + FP + FN)."""

    name = "f1"

    def ratio(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        return 2 * tp, 2 * tp + fp + fn

    def share(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        """F1 = 2 J / (1 + J) with J = TP / (TP + FP + FN), which is a share of cases."""
        return tp, tp + fp + fn

    def of_share(self, interval: tuple[float, float]) -> tuple[float, float]:
        low, high = (2 * end / (1 + end) for end in interval)
        return low, high


class Sensitivity(_Ratio):
    """Sensitivity, TP / (TP + FN)."""

    name = "sensitivity"

    def ratio(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        return tp, tp + fn


class Specificity(_Ratio):
    """Specificity, TN / (TN + FP)."""

    name = "specificity"

    def ratio(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        return tn, tn + fp


class Accuracy(_Ratio):
    """Accuracy, (TP + TN) / all."""

    name = "accuracy"

    def ratio(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        return tp + tn, tp + fp + fn + tn


class PPV(_Ratio):
    """Positive predictive value, TP / (TP + FP)."""

    name = "ppv"

    def ratio(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        return tp, tp + fp


class NPV(_Ratio):
    """Negative predictive value, TN / (TN + FN)."""

    name = "npv"

    def ratio(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        return tn, tn + fn
