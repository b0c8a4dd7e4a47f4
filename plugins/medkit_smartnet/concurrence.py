"""Do the classification and the segmentation head agree about a slice?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from medkit.parts.metrics_sums import ShareMetric


class Concurrence(ShareMetric):
    """Concurrence rate: share of slices whose rounded class equals the largest rounded segmentation (thesis eq. 2).

    Parameters
    ----------
    on:
        ``positives`` or ``negatives`` by the ground truth (Table 5 shows both), or ``all`` slices.
    """

    unit = "share"
    higher_is_better = True

    def __init__(self, on: Literal["positives", "negatives", "all"] = "all") -> None:
        self.on = on
        self.name = "concurrence" if on == "all" else f"concurrence_{on}"
        self.empty = "slices of the other class, or without a label, are left out" if on != "all" else "none"

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        if self.on != "all" and (case["label"] > 0) != (self.on == "positives"):
            return None
        # Rounding is to even, so a probability of exactly 0.5 counts as no.
        said = np.round(case["probability"])
        drawn = np.round(np.max(case["mask_probability"]))
        return {"value": float(said == drawn)}

    def each(self, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        return rows["value"]

    def score(self, row: Mapping[str, Any]) -> float:
        return float(row["value"])
