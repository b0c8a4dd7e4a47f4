"""Metrics that count lesions: connected parts of masks, where voxels that touch by a face, edge or corner connect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from medkit.parts.metrics_masks import MaskMetric

Rows = Mapping[str, np.ndarray]
TOUCHING = np.ones((3, 3, 3), bool)


def lesions(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """(D,h,w) the number of each voxel's lesion, 0 for none, and how many there are."""
    numbers, count = ndimage.label(mask, TOUCHING)
    return numbers, int(count)


def touched(mask: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """How many lesions of a mask share a voxel with another mask, and how many it has."""
    numbers, count = lesions(mask)
    found = np.unique(numbers[other])
    return int((found > 0).sum()), count


class LesionSensitivity(MaskMetric):
    """Share of lesions that are found, by at least one voxel: the mean over cases of the share in each."""

    name = "lesion_sensitivity"
    unit = ""
    higher_is_better = True
    empty = "cases whose truth is empty are left out"

    def of_masks(self, truth: np.ndarray, said: np.ndarray, case: Mapping[str, Any]) -> float | None:
        found, count = touched(truth, said)
        return found / count if count else None


class LesionFalsePositives(MaskMetric):
    """Predicted lesions that share no voxel with the truth, in each case; their mean over all cases."""

    name = "lesion_false_positives"
    unit = "per case"
    higher_is_better = False
    empty = "none"

    def of_masks(self, truth: np.ndarray, said: np.ndarray, case: Mapping[str, Any]) -> float | None:
        right, count = touched(said, truth)
        return float(count - right)
