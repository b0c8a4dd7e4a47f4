"""Metrics of yes-or-no decisions, from a probability and a label a case. 0.5 rounds to no."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest, rankdata

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

    def counts(self, rows: Rows) -> tuple[int, int, int, int]:
        """True positives, false positives, false negatives, true negatives."""
        yes, said = rows["label"] > 0, np.round(rows["probability"]) > 0
        return int((yes & said).sum()), int((~yes & said).sum()), int((yes & ~said).sum()), int((~yes & ~said).sum())


class AUC(_Binary):
    """Area under the ROC curve by ranks, ties counted half; undefined (nan) when only one class is there."""

    name = "auc"

    def compute(self, rows: Rows) -> float:
        yes = rows["label"] > 0
        n, m = int(yes.sum()), int((~yes).sum())
        if n == 0 or m == 0:
            return float("nan")
        ranks = rankdata(rows["probability"])
        return float((ranks[yes].sum() - n * (n + 1) / 2) / (n * m))


class _Ratio(_Binary, ABC):
    empty = "cases without a label are left out; 0 when the denominator is 0"

    @abstractmethod
    def ratio(self, tp: int, fp: int, fn: int, tn: int) -> tuple[float, float]:
        """Numerator and denominator."""

    def compute(self, rows: Rows) -> float:
        if len(rows["label"]) == 0:
            return float("nan")
        top, bottom = self.ratio(*self.counts(rows))
        return top / bottom if bottom else 0.0


class F1(_Ratio):
    """F1 score, 2 TP / (2 TP + FP + FN)."""

    name = "f1"

    def ratio(self, tp: int, fp: int, fn: int, tn: int) -> tuple[float, float]:
        return 2 * tp, 2 * tp + fp + fn


class _Share(_Ratio):
    """A share of cases, each of which is right or wrong."""

    def interval(self, rows: Rows, patients: Sequence[str]) -> tuple[float, float] | None:
        """Wilson's 95 % score interval (1927), which does not shrink to a point when all or none are right.

        None, for the bootstrap, where a patient has several cases: they are not independent then.
        """
        top, bottom = self.ratio(*self.counts(rows))
        if len(set(patients)) < len(patients) or not bottom:
            return None
        found = binomtest(int(top), int(bottom)).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)


class Sensitivity(_Share):
    """Sensitivity, TP / (TP + FN)."""

    name = "sensitivity"

    def ratio(self, tp: int, fp: int, fn: int, tn: int) -> tuple[float, float]:
        return tp, tp + fn


class Specificity(_Share):
    """Specificity, TN / (TN + FP)."""

    name = "specificity"

    def ratio(self, tp: int, fp: int, fn: int, tn: int) -> tuple[float, float]:
        return tn, tn + fp


class Accuracy(_Share):
    """Accuracy, (TP + TN) / all."""

    name = "accuracy"

    def ratio(self, tp: int, fp: int, fn: int, tn: int) -> tuple[float, float]:
        return tp + tn, tp + fp + fn + tn


class PPV(_Share):
    """Positive predictive value, TP / (TP + FP)."""

    name = "ppv"

    def ratio(self, tp: int, fp: int, fn: int, tn: int) -> tuple[float, float]:
        return tp, tp + fp


class NPV(_Share):
    """Negative predictive value, TN / (TN + FN)."""

    name = "npv"

    def ratio(self, tp: int, fp: int, fn: int, tn: int) -> tuple[float, float]:
        return tn, tn + fn
