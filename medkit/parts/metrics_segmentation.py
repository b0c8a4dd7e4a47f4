"""Metrics of segmentation, counted on the source grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from medkit.parts.metrics_masks import MaskMetric
from medkit.parts.metrics_sums import MeanMetric

Rows = Mapping[str, np.ndarray]


class DiceScore(MaskMetric):
    """Dice similarity coefficient (DSC) of positive cases, mean over cases (thesis part B, Metrics).

    2 |P and T| / (|P| + |T|) with probabilities rounded, 0.5 down. A missed case counts as 0. For masks with
    classes it is computed for each class, with their mean.
    """

    name = "dice"
    unit = ""
    higher_is_better = True
    empty = "cases whose truth is empty are left out"

    def of_masks(self, truth: np.ndarray, said: np.ndarray, case: Mapping[str, Any]) -> float | None:
        if not truth.any():
            return None
        return 2.0 * float((truth & said).sum()) / float(truth.sum() + said.sum())

    def extras(self, rows: Rows) -> dict[str, float]:
        """Beside the value: how many lesions were missed altogether, counted as 0 in the mean."""
        return {"missed": float(np.sum(rows["value"] == 0))} if len(rows["value"]) else {}


class FalsePositiveVolume(MeanMetric):
    """False positive volume (FPV) of normal cases in microlitres (thesis eq. 1).

    Rounded segmentation times the volume of a source voxel. The tables of the thesis show the mean over normal cases;
    read literally, eq. 1 is their sum.

    Parameters
    ----------
    on:
        ``negatives``: cases with an empty truth; ``all``: false positives of every case.
    aggregate:
        ``mean`` or ``sum`` over cases.

    nan if a source does not say how large its pixels are.
    """

    unit = "uL"
    higher_is_better = False

    def __init__(
        self, on: Literal["negatives", "all"] = "negatives", aggregate: Literal["mean", "sum"] = "mean"
    ) -> None:
        self.on, self.aggregate = on, aggregate
        self.name = "fpv" + ("" if aggregate == "mean" else "_sum") + ("" if on == "negatives" else "_all")
        self.empty = "cases whose truth is not empty are left out" if on == "negatives" else "none"

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        truth = np.asarray(case["mask"]) > 0
        if self.on == "negatives" and truth.any():
            return None
        wrong = (np.asarray(case["mask_probability"]) > 0.5) & ~truth
        return {"value": float((wrong.sum((1, 2)) * np.asarray(case["slice_volumes"])).sum())}

    def each(self, rows: Rows) -> np.ndarray:
        return rows["value"]

    def of_sums(self, sums: np.ndarray) -> np.ndarray:
        return super().of_sums(sums) if self.aggregate == "mean" else sums[..., 0]

    def compute(self, rows: Rows) -> float:
        mean = super().compute(rows)
        return mean if self.aggregate == "mean" else mean * len(rows["value"])

    def score(self, row: Mapping[str, Any]) -> float:
        return float(row["value"])
