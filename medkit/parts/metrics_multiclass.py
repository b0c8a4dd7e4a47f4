"""Metrics of one class among several, from the probabilities of all classes and the true class' number a case.

The likeliest class is what a network says (the first of several equal ones). A macro average is the plain mean over
the classes that occur among the true ones, so that rare classes count like frequent ones; a class that no case of the
test set has, has no recall, and is left out of all three averages alike. A class that is there but was never
said has precision 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from medkit.parts.metrics_sums import ShareMetric

Rows = Mapping[str, np.ndarray]


def class_row(case: Mapping[str, Any]) -> dict[str, Any] | None:
    """The true class and the likeliest; None for a case without a class."""
    label = float(case["label"])
    said = int(np.argmax(case["class_probability"]))
    return None if np.isnan(label) else {"class": int(label), "said": said}


class Top1(ShareMetric):
    """Share of images whose likeliest class is the true one: accuracy over all images, not averaged over classes."""

    name = "top1"
    unit = ""
    higher_is_better = True
    empty = "cases without a class are left out"

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        return class_row(case)

    def each(self, rows: Rows) -> np.ndarray:
        return rows["class"] == rows["said"]

    def score(self, row: Mapping[str, Any]) -> float:
        return float(row["class"] == row["said"])


class _Macro(ABC):
    name = ""
    unit = ""
    higher_is_better = True
    empty = "cases without a class are left out; classes that no case has do not count"

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        return class_row(case)

    @abstractmethod
    def of_classes(self, right: np.ndarray, true: np.ndarray, said: np.ndarray) -> np.ndarray:
        """Value of each class from how often it was rightly said, is true (never 0 here) and was said."""

    def compute(self, rows: Rows) -> float:
        return self.weighted(rows)(np.ones(len(rows["class"]))) if len(rows["class"]) else float("nan")

    def weighted(self, rows: Rows) -> Callable[[np.ndarray], float]:
        """The average as a function of how often each row counts."""
        true, said = rows["class"], rows["said"]
        classes = int(max(true.max(), said.max())) + 1
        code = true * classes + said

        def average(times: np.ndarray) -> float:
            confusion = np.bincount(code, times, classes**2).reshape(classes, classes)
            there, claimed, right = confusion.sum(1), confusion.sum(0), confusion.diagonal()
            known = there > 0
            return float(self.of_classes(right[known], there[known], claimed[known]).mean())

        return average

    def score(self, row: Mapping[str, Any]) -> float:
        return float("nan")


class MacroPrecision(_Macro):
    """Precision of each class, averaged: how often a class is right when it is said."""

    name = "macro_precision"

    def of_classes(self, right: np.ndarray, true: np.ndarray, said: np.ndarray) -> np.ndarray:
        return right / np.maximum(said, 1)


class MacroRecall(_Macro):
    """Recall of each class, averaged: how often a class is said when it is true."""

    name = "macro_recall"

    def of_classes(self, right: np.ndarray, true: np.ndarray, said: np.ndarray) -> np.ndarray:
        return right / true


class MacroF1(_Macro):
    """F1 score of each class, averaged."""

    name = "macro_f1"

    def of_classes(self, right: np.ndarray, true: np.ndarray, said: np.ndarray) -> np.ndarray:
        return 2 * right / (true + said)
