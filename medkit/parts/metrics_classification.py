"""Metrics of yes-or-no decisions, from a probability and a label per case. 0.5 counts as no."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from scipy.stats import rankdata

from medkit.parts.intervals import FEWEST_OF_A_KIND, auc_interval, numbered, wilson
from medkit.parts.metrics_sums import SumMetric, divided
from medkit.protocols.labels import Labels

Rows = Mapping[str, np.ndarray]


class _Binary:
    unit = ""
    higher_is_better = True
    empty = "cases without a label are left out"
    name = ""
    binary_label = True
    of: tuple[Labels, int] | None = None
    """The declared labels and the class among them that it measures; None: ``label`` and ``probability``."""
    decides = False
    """Whether all that counts is on which side of 0.5 a probability is."""

    def of_class(self, labels: Labels, number: int, name: str) -> Self:
        """This metric of one class against all others, as ``NAME_CLASS``."""
        one = copy.copy(self)
        one.of, one.name = (labels, number), f"{name}_{labels.names[number]}"
        one.empty = f"{self.empty}; {labels.names[number]} against all others"
        return one

    def extras(self, rows: Rows) -> dict[str, float]:
        """How many rows of how many patients have the class, if it measures one."""
        if self.of is None:
            return {}
        yes = rows["label"] > 0
        return {"positives": int(yes.sum()), "positive_patients": len(set(rows["patient"][yes].tolist()))}

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        if self.of is not None:
            return _row_of_class(case, *self.of, self.decides)
        label = float(case["label"])
        if np.isnan(label):
            return None
        return {"label": label, "probability": float(case["probability"])}

    def score(self, row: Mapping[str, Any]) -> float:
        return float("nan")


def _row_of_class(case: Mapping[str, Any], labels: Labels, number: int, decided: bool) -> dict[str, Any] | None:
    """Whether a case has a class, and its probability; ``decided``: whether the class is predicted, as 0 and 1."""
    truth = np.asarray(case["labels"], float)
    label = float(truth[number]) if labels.kind == "any_of" else float(truth)
    if np.isnan(label):
        return None
    each = case["label_probability" if labels.kind == "any_of" else "class_probability"]
    probability = float(each[number])
    if labels.kind != "any_of":
        label = float(label == number)
        probability = float(labels.said(each) == number) if decided else probability
    return {"label": label, "probability": probability, "patient": str(case["patient"])}


class _OfBoth(_Binary):
    """A number of positives and negatives, which few patients of either kind leave open however many the others are."""

    def lacks(self, rows: Rows, patients: Sequence[str]) -> str:
        """Why there is no interval: too few patients of a kind."""
        yes, names = rows["label"] > 0, np.asarray(patients)
        for kind, those in (("positive", names[yes]), ("negative", names[~yes])):
            if (count := len(np.unique(those))) < FEWEST_OF_A_KIND:
                told = f"{count} patient{' has' if count == 1 else 's have'} {kind} cases"
                return f"{told}, fewer than {FEWEST_OF_A_KIND}"
        return ""


class AUC(_OfBoth):
    """Area under the ROC curve by ranks, ties counted half; undefined (nan) if there is only one class."""

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
        """The area as a function of how often each row counts; scores are sorted once and for all."""
        values, place = np.unique(rows["probability"], return_inverse=True)
        code = 2 * place + (rows["label"] > 0)

        def area(times: np.ndarray) -> float:
            negative, positive = np.bincount(code, times, 2 * len(values)).reshape(-1, 2).T
            above = 2 * np.cumsum(negative) - negative
            return float(divided(positive @ above, 2 * float(positive.sum()) * float(negative.sum())))

        return area

    def interval(self, rows: Rows, patients: Sequence[str]) -> tuple[float, float]:
        """DeLong's 95 % interval on the logit scale, by patients; it is not a point for separated classes."""
        return auc_interval(rows["probability"], rows["label"], numbered(patients)[0])


class AveragePrecision(_OfBoth):
    """Area under the precision-recall curve by steps: precision at each score, times the recall it adds.

    Equal scores are one step. Undefined (nan) without a positive case.
    """

    name = "ap"

    def compute(self, rows: Rows) -> float:
        return self.weighted(rows)(np.ones(len(rows["label"]))) if len(rows["label"]) else float("nan")

    def weighted(self, rows: Rows) -> Callable[[np.ndarray], float]:
        """The area as a function of how often each row counts."""
        values, place = np.unique(-np.asarray(rows["probability"], float), return_inverse=True)
        code = 2 * place + (rows["label"] > 0)

        def area(times: np.ndarray) -> float:
            negative, positive = np.bincount(code, times, 2 * len(values)).reshape(-1, 2).T
            found, said = np.cumsum(positive), np.cumsum(positive + negative)
            precision = np.divide(found, said, out=np.zeros_like(found), where=said > 0)
            return float(divided(positive @ precision, positive.sum()))

        return area


class _Ratio(_Binary, SumMetric):
    """A ratio of true positives, false positives, false negatives and true negatives."""

    decides = True
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

    def among(self, rows: Rows) -> np.ndarray:
        """(n,) bool: the rows in the denominator, of which the number is."""
        return np.asarray(self.share(*self.terms(rows).T)[1]) > 0

    def share(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        """How many of how many rows: what the interval is computed from."""
        return self.ratio(tp, fp, fn, tn)

    def of_share(self, interval: tuple[float, float]) -> tuple[float, float]:
        """The metric's interval from that of the proportion."""
        return interval


class F1(_Ratio):
    """F1 score, 2 TP / (2 TP + FP + FN)."""

    name = "f1"
    empty = "cases neither positive nor predicted to be, and those without a label, are left out; undefined if all are"

    def ratio(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        return 2 * tp, 2 * tp + fp + fn

    def share(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        """F1 = 2 J / (1 + J) with J = TP / (TP + FP + FN), which is a proportion of cases."""
        return tp, tp + fp + fn

    def of_share(self, interval: tuple[float, float]) -> tuple[float, float]:
        low, high = (2 * end / (1 + end) for end in interval)
        return low, high


class Sensitivity(_Ratio):
    """Sensitivity, TP / (TP + FN)."""

    name = "sensitivity"
    empty = "negative cases and those without a label are left out; undefined without a positive one"

    def ratio(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        return tp, tp + fn


class Specificity(_Ratio):
    """Specificity, TN / (TN + FP)."""

    name = "specificity"
    empty = "positive cases and those without a label are left out; undefined without a negative one"

    def ratio(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        return tn, tn + fp


class Accuracy(_Ratio):
    """Accuracy, (TP + TN) / all."""

    name = "accuracy"

    def ratio(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        return tp + tn, tp + fp + fn + tn


class BinaryBalancedAccuracy(_Ratio, _OfBoth):
    """The mean of sensitivity and specificity."""

    name = "balanced_accuracy"

    def ratio(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        return tp * (tn + fp) + tn * (tp + fn), 2 * (tp + fn) * (tn + fp)

    def among(self, rows: Rows) -> np.ndarray:
        """All: its denominator is no number of rows."""
        return np.ones(len(rows["label"]), bool)

    def interval(self, rows: Rows, patients: Sequence[str]) -> Any:
        """None: it is not a proportion of cases, so its interval is the bootstrap's."""
        return None


class PPV(_Ratio):
    """Positive predictive value, TP / (TP + FP)."""

    name = "ppv"
    empty = "cases that are not predicted to be positive, and those without a label, are left out; undefined if all are"

    def ratio(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        return tp, tp + fp


class NPV(_Ratio):
    """Negative predictive value, TN / (TN + FN)."""

    name = "npv"
    empty = "cases that are predicted to be positive, and those without a label, are left out; undefined if all are"

    def ratio(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        return tn, tn + fn
