"""Metrics of regression, from one value and one true value a case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Rows = Mapping[str, np.ndarray]


class MAE:
    """Mean absolute error, in the unit of the value."""

    name = "mae"
    unit = ""
    higher_is_better = False
    empty = "cases without a true value are left out"

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        label = float(case["label"])
        return None if np.isnan(label) else {"label": label, "value": float(case["value"])}

    def compute(self, rows: Rows) -> float:
        return float(np.mean(np.abs(rows["value"] - rows["label"]))) if len(rows["label"]) else float("nan")

    def score(self, row: Mapping[str, Any]) -> float:
        return abs(float(row["value"]) - float(row["label"]))


class MSE(MAE):
    """Mean square error, in the square of the value's unit."""

    name = "mse"

    def compute(self, rows: Rows) -> float:
        return float(np.mean((rows["value"] - rows["label"]) ** 2)) if len(rows["label"]) else float("nan")

    def score(self, row: Mapping[str, Any]) -> float:
        return (float(row["value"]) - float(row["label"])) ** 2


class R2(MAE):
    """Coefficient of determination; undefined (nan) when all true values are equal."""

    name = "r2"
    higher_is_better = True

    def compute(self, rows: Rows) -> float:
        if not len(rows["label"]):
            return float("nan")
        spread = float(np.sum((rows["label"] - rows["label"].mean()) ** 2))
        return 1 - float(np.sum((rows["value"] - rows["label"]) ** 2)) / spread if spread else float("nan")

    def score(self, row: Mapping[str, Any]) -> float:
        return float("nan")
