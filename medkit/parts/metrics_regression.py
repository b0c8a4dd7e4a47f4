"""Metrics of regression, from one value and one true value per case."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from medkit.parts.metrics_sums import MeanMetric, SumMetric, divided
from medkit.protocols.labels import Labels

Rows = Mapping[str, np.ndarray]


class _Regression:
    unit = ""
    higher_is_better = False
    empty = "cases without a true value are left out"
    label_kinds = ("unit", "ordered")
    power = 1
    """Of the value's unit."""
    labels: Labels | None = None

    def of_labels(self, labels: Labels) -> list[Any]:
        """The metric for declared measurements in their unit, or for ordered classes in steps from one to the next."""
        one = copy.copy(self)
        unit = {"ordered": "classes"}.get(labels.kind, labels.unit if labels.unit != "1" else "")
        one.labels, one.unit = labels, "" if not self.power else f"{unit}²" if self.power == 2 and unit else unit
        return [one]

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        label = float(case["label" if self.labels is None else "labels"])
        if np.isnan(label):
            return None
        if self.labels is not None and self.labels.kind == "ordered":
            return {"label": label, "value": float(self.labels.said(case["class_probability"]))}
        return {"label": label, "value": float(case["value"])}


class MAE(_Regression, MeanMetric):
    """Mean absolute error, in the unit of the value."""

    name = "mae"

    def each(self, rows: Rows) -> np.ndarray:
        return np.abs(rows["value"] - rows["label"])

    def score(self, row: Mapping[str, Any]) -> float:
        return abs(float(row["value"]) - float(row["label"]))


class MSE(_Regression, MeanMetric):
    """Mean square error, in the square of the value's unit."""

    name = "mse"
    power = 2

    def each(self, rows: Rows) -> np.ndarray:
        return (rows["value"] - rows["label"]) ** 2

    def score(self, row: Mapping[str, Any]) -> float:
        return (float(row["value"]) - float(row["label"])) ** 2


class R2(_Regression, SumMetric):
    """Coefficient of determination; undefined (nan) when all true values are equal."""

    name = "r2"
    power = 0
    higher_is_better = True

    def terms(self, rows: Rows) -> np.ndarray:
        # Around the overall mean, so that large values cost no digits; the mean of equal values may differ from them by
        # rounding, which is no spread.
        true = rows["label"] - rows["label"].mean()
        true = np.where(np.abs(true) > 1e-12 * np.abs(rows["label"]).max(), true, 0)
        return np.stack([np.ones_like(true), true, true**2, (rows["value"] - rows["label"]) ** 2], 1)

    def of_sums(self, sums: np.ndarray) -> np.ndarray:
        n, true, square, residual = np.moveaxis(sums, -1, 0)
        spread = square - divided(true**2, n)
        return 1 - divided(residual, np.where(spread > 1e-12 * square, spread, 0))

    def compute(self, rows: Rows) -> float:
        return super().compute(rows) if len(rows["label"]) else float("nan")

    def score(self, row: Mapping[str, Any]) -> float:
        return float("nan")
