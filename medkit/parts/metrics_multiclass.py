"""Metrics of one class among several, from the probabilities of all classes and the number of each case's true class.

If the data block declares labels, the metrics use these, under the names of the classes (``f1_NAME``). The most likely
class is what a network predicts (the first of several equal ones), for ordered classes the median. A macro average is
the plain mean over the classes that occur among the true ones, so that rare classes count like frequent ones; a class
that no case of the test set has, has no recall, and is left out of all three averages alike. A class that occurs but
was never predicted has precision 0.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from medkit.errors import InputError
from medkit.parts.intervals import few_of_class
from medkit.parts.metrics_classification import F1, PPV, BinaryBalancedAccuracy, Sensitivity
from medkit.parts.metrics_labels import LabelMean, each_class
from medkit.parts.metrics_sums import ShareMetric
from medkit.protocols.labels import Labels

Rows = Mapping[str, np.ndarray]


def class_row(case: Mapping[str, Any], labels: Labels | None = None) -> dict[str, Any] | None:
    """The true and the predicted class, the most likely (of ordered ones the median); None without a class."""
    label, each = float(case["label" if labels is None else "labels"]), case["class_probability"]
    said = int(np.argmax(each)) if labels is None else int(labels.said(each))
    return None if np.isnan(label) else {"class": int(label), "said": said}


class Top1(ShareMetric):
    """Share of images whose most likely class is the true one: accuracy over all images, not averaged over classes."""

    name = "top1"
    unit = ""
    higher_is_better = True
    empty = "cases without a class are left out"
    label_kinds = ("one_of", "ordered")
    labels: Labels | None = None

    def of_labels(self, labels: Labels) -> list[Any]:
        one = copy.copy(self)
        one.labels = labels
        return [one]

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        return class_row(case, self.labels)

    def extras(self, rows: Rows) -> dict[str, float]:
        """How many cases of each class were predicted to be which, ``TRUE said OTHER``, for declared labels."""
        if self.labels is None:
            return {}
        names, pairs = self.labels.names, zip(rows["class"].tolist(), rows["said"].tolist(), strict=True)
        return {f"{names[true]} said {names[said]}": n for (true, said), n in sorted(Counter(pairs).items())}

    def each(self, rows: Rows) -> np.ndarray:
        return rows["class"] == rows["said"]

    def score(self, row: Mapping[str, Any]) -> float:
        return float(row["class"] == row["said"])


class Confusion(ABC):
    """A function of how often which class was predicted for which."""

    name = ""
    unit = ""
    higher_is_better = True
    empty = "cases without a class are left out; classes that no case has do not count"
    label_kinds: ClassVar[tuple[str, ...]] = ("one_of", "ordered")
    labels: Labels | None = None

    def of_labels(self, labels: Labels) -> list[Any]:
        one = copy.copy(self)
        one.labels = labels
        return [one]

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        return class_row(case, self.labels)

    @abstractmethod
    def of_confusion(self, confusion: np.ndarray) -> float:
        """The number, from how often (K,K) each true class (rows) was predicted to be which (columns)."""

    def compute(self, rows: Rows) -> float:
        return self.weighted(rows)(np.ones(len(rows["class"]))) if len(rows["class"]) else float("nan")

    def weighted(self, rows: Rows) -> Callable[[np.ndarray], float]:
        """The number as a function of how often each row counts."""
        true, said = rows["class"], rows["said"]
        classes = int(max(true.max(), said.max())) + 1 if self.labels is None else len(self.labels)
        code = true * classes + said
        return lambda times: self.of_confusion(np.bincount(code, times, classes**2).reshape(classes, classes))

    def score(self, row: Mapping[str, Any]) -> float:
        return float("nan")

    def few_in(self, column: str, rows: Rows, patients: Sequence[str]) -> str:
        """Which true class is rare in a column, ``class`` or ``said``: it has one or two patients; "" if none is."""
        names, true = np.asarray(patients), np.unique(rows["class"])
        for number in true.tolist():
            told = f"class {number}" if self.labels is None else self.labels.names[number]
            if why := few_of_class(f"{'predicted ' if column == 'said' else ''}{told}", names[rows[column] == number]):
                return why
        return ""


class _OfClasses(Confusion):
    """A mean over classes."""

    def lacks(self, rows: Rows, patients: Sequence[str]) -> str:
        """Why there is no interval: too few patients of a class, which counts as much as any other."""
        return self.few_in("class", rows, patients)


class _Macro(_OfClasses):
    """An average over classes; for declared labels with each class's number, of which it is the mean for ``any_of``."""

    label_kinds = ("one_of", "any_of", "ordered")
    binary: Any
    single: str

    def of_labels(self, labels: Labels) -> list[Any]:
        each = each_class(self.binary(), labels, self.single)
        if labels.kind == "any_of":
            return [LabelMean(self.name, each), *each]
        return [*super().of_labels(labels), *each]

    @abstractmethod
    def of_classes(self, right: np.ndarray, true: np.ndarray, said: np.ndarray) -> np.ndarray:
        """Value of each class from how often it was correctly predicted, is true (never 0 here) and was predicted."""

    def of_confusion(self, confusion: np.ndarray) -> float:
        there, claimed, right = confusion.sum(1), confusion.sum(0), confusion.diagonal()
        known = there > 0
        return float(self.of_classes(right[known], there[known], claimed[known]).mean())


class MacroPrecision(_Macro):
    """Precision of each class, averaged: how often a class is right when it is predicted."""

    name = "macro_precision"
    binary, single = PPV, "precision"

    def of_classes(self, right: np.ndarray, true: np.ndarray, said: np.ndarray) -> np.ndarray:
        return right / np.maximum(said, 1)

    def lacks(self, rows: Rows, patients: Sequence[str]) -> str:
        """As of all such means; and a precision is a share of those who are predicted to have the class."""
        return super().lacks(rows, patients) or self.few_in("said", rows, patients)


class MacroRecall(_Macro):
    """Recall of each class, averaged: how often a class is predicted when it is true."""

    name = "macro_recall"
    binary, single = Sensitivity, "recall"

    def of_classes(self, right: np.ndarray, true: np.ndarray, said: np.ndarray) -> np.ndarray:
        return right / true


class MacroF1(_Macro):
    """F1 score of each class, averaged."""

    name = "macro_f1"
    binary, single = F1, "f1"

    def of_classes(self, right: np.ndarray, true: np.ndarray, said: np.ndarray) -> np.ndarray:
        return 2 * right / (true + said)


class BalancedAccuracy(_OfClasses):
    """Mean recall over the classes that occur; for ``any_of`` the mean over classes of sensitivity and specificity."""

    name = "balanced_accuracy"
    label_kinds = ("one_of", "any_of", "ordered")

    def of_labels(self, labels: Labels) -> list[Any]:
        if labels.kind != "any_of":
            return super().of_labels(labels)
        each = each_class(BinaryBalancedAccuracy(), labels, self.name)
        return [LabelMean(self.name, each), *each]

    def of_confusion(self, confusion: np.ndarray) -> float:
        there = confusion.sum(1)
        return float((confusion.diagonal()[there > 0] / there[there > 0]).mean())


class Kappa(Confusion):
    """Cohen's kappa, ``1 - sum(w observed) / sum(w expected)``, with weights for disagreement (Cohen 1968).

    For classes i and j they are ``(i - j)^2`` (quadratic), ``|i - j|`` (linear), or 1 if i and j differ (none).
    Recorded as ``kappa_quadratic``, ``kappa_linear`` or ``kappa``. Undefined (nan) if all cases are of one class and
    all are predicted to be.

    Parameters
    ----------
    weights:
        The first two are for ordered classes only.
    """

    empty = "cases without a class are left out"

    def __init__(self, weights: Literal["quadratic", "linear", "none"] = "quadratic") -> None:
        self.weights = weights
        self.name = "kappa" if weights == "none" else f"kappa_{weights}"

    def of_labels(self, labels: Labels) -> list[Any]:
        if labels.kind == "one_of" and self.weights != "none":
            hint = "'weights: none', or 'ordered' in the data block's labels in place of 'one_of'"
            raise InputError(f"{self.weights} weights go by the order of classes, and 'one_of' has none", "kappa", hint)
        return super().of_labels(labels)

    def of_confusion(self, confusion: np.ndarray) -> float:
        away = np.abs(np.subtract.outer(np.arange(len(confusion)), np.arange(len(confusion)))).astype(float)
        weights = {"quadratic": away**2, "linear": away, "none": (away > 0).astype(float)}[self.weights]
        total = confusion.sum()
        expected = np.outer(confusion.sum(1), confusion.sum(0)) / max(total, 1)
        bottom = float((weights * expected).sum())
        return 1 - float((weights * confusion).sum()) / bottom if bottom > 0 else float("nan")
