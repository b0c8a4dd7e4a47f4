"""Metrics that are functions of sums over rows.

The bootstrap then needs nothing but the sums of each patient: all draws are one matrix product, and what a metric
would be without each patient is a subtraction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

Rows = Mapping[str, np.ndarray]


def divided(top: Any, bottom: Any) -> np.ndarray:
    """``top / bottom``, nan if the denominator is 0."""
    top, bottom = np.asarray(top, float), np.asarray(bottom, float)
    return np.divide(top, bottom, out=np.full(np.broadcast(top, bottom).shape, np.nan), where=bottom != 0)


class SumMetric(ABC):
    """A metric that is ``of_sums`` of the sums of ``terms`` over its rows."""

    @abstractmethod
    def terms(self, rows: Rows) -> np.ndarray:
        """(n,k) numbers to be summed over rows."""

    @abstractmethod
    def of_sums(self, sums: np.ndarray) -> np.ndarray:
        """The metric (...) from sums (...,k); nan if it is undefined."""

    def compute(self, rows: Rows) -> float:
        return float(self.of_sums(np.asarray(self.terms(rows), float).sum(0)))


class MeanMetric(SumMetric):
    """The mean of one number per row, ``each``; nan without rows."""

    @abstractmethod
    def each(self, rows: Rows) -> np.ndarray:
        """(n,) the number of each row."""

    def terms(self, rows: Rows) -> np.ndarray:
        each = np.asarray(self.each(rows), float)
        return np.stack([each, np.ones_like(each)], 1)

    def of_sums(self, sums: np.ndarray) -> np.ndarray:
        return divided(sums[..., 0], sums[..., 1])

    def compute(self, rows: Rows) -> float:
        each = np.asarray(self.each(rows), float)
        return float(each.mean()) if len(each) else float("nan")


class ShareMetric(MeanMetric):
    """The share of rows that are right: ``each`` is 0 or 1. Its interval is Wilson's."""

    interval_method = "Wilson"

    def interval(self, rows: Rows, patients: Any) -> tuple[float, float]:
        """Wilson's 95 % interval, by patients (:func:`medkit.parts.intervals.wilson`)."""
        from medkit.parts.intervals import numbered, wilson

        index, count = numbered(patients)
        return wilson(np.bincount(index, self.each(rows), count), np.bincount(index, minlength=count))
