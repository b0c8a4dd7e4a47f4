"""A plugin for tests: metrics under names that its recipe chooses."""

from __future__ import annotations

from typing import Any

import numpy as np

from medkit.api import hookimpl
from medkit.parts.metrics_sums import MeanMetric


class Named(MeanMetric):
    """How sure a network is of the truth.

    Parameters
    ----------
    name:
        What it is recorded as.
    power:
        Of the distance to the truth; the name does not say it.
    """

    unit, higher_is_better, empty = "", False, "none"

    def __init__(self, name: str = "distance", power: float = 1.0) -> None:
        self.name, self.power = name, power

    def per_case(self, case: Any) -> dict[str, Any]:
        return {"x": abs(float(case["probability"]) - float(case["label"])) ** self.power}

    def each(self, rows: Any) -> np.ndarray:
        return np.asarray(rows["x"])

    def score(self, row: Any) -> float:
        return float(row["x"])


class Center(Named):
    """The same, under the name of a column."""

    name = "center"


@hookimpl
def medkit_register(registry: Any) -> None:
    registry.metric("named", "named_metric_plugin:Named", "under any name")
    registry.metric("center", "named_metric_plugin:Center", "under the name of a column")
