"""Distances between the surfaces of masks, in mm.

A voxel is on the surface of a mask if one of its six neighbours (four in a single slice) is not in it or is outside
the volume. Distances are measured between the centres of voxels at their true positions in the source, so uneven slice
spacing and a gantry tilt are respected. A mask that was missed is as far away as can be: by the volume's diagonal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from scipy import ndimage
from scipy.spatial import cKDTree

from medkit.parts.metrics_masks import MaskMetric

ROUNDING = 1e-6
"""Share of the tolerance by which a distance may exceed it: three pixels of 0.4 mm are 1.2 mm in floats too."""


def surface(mask: np.ndarray) -> np.ndarray:
    """(D,h,w) bool, the voxels of a mask that are on its surface."""
    if len(mask) == 1:
        return mask & ~ndimage.binary_erosion(mask[0])[None]
    return mask & ~ndimage.binary_erosion(mask)


def places(mask: np.ndarray, case: Mapping[str, Any]) -> np.ndarray:
    """(n,3) mm, the positions of the voxels of a mask (D,h,w)."""
    z, row, column = np.nonzero(mask)
    affine = np.asarray(case["affine"])
    return np.asarray(case["positions"])[z] + np.outer(row, affine[:3, 1]) + np.outer(column, affine[:3, 2])


def diagonal(shape: tuple[int, ...], case: Mapping[str, Any]) -> float:
    """mm from the first voxel of a volume (D,h,w) to the last."""
    corners = np.zeros(shape, bool)
    corners[0, 0, 0] = corners[-1, -1, -1] = True
    ends = places(corners, case)
    return float(np.linalg.norm(ends[-1] - ends[0]))


def distances(truth: np.ndarray, said: np.ndarray, case: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """mm from each voxel of the true surface to the predicted one, and vice versa."""
    one, other = places(surface(truth), case), places(surface(said), case)
    return cKDTree(other).query(one)[0], cKDTree(one).query(other)[0]


class _SurfaceMetric(MaskMetric):
    unit = "mm"
    higher_is_better = False
    empty = "cases whose truth is empty are left out"
    needs = ("affine", "positions")

    def of_masks(self, truth: np.ndarray, said: np.ndarray, case: Mapping[str, Any]) -> float | None:
        if not truth.any():
            return None
        if not np.isfinite(np.asarray(case["positions"])).all():
            return float("nan")
        if not said.any():
            return self.missed(truth.shape, case)
        return self.of_distances(*distances(truth, said, case))

    def missed(self, shape: tuple[int, ...], case: Mapping[str, Any]) -> float:
        """The number for a mask that was not found at all."""
        return diagonal(shape, case)

    def of_distances(self, there: np.ndarray, back: np.ndarray) -> float:
        """The number from the distances of either surface to the other, in mm."""
        raise NotImplementedError


class HD95(_SurfaceMetric):
    """95th percentile of the Hausdorff distance in mm: the larger of the two directions' percentiles.

    A case that was missed counts as the diagonal of its volume; nan if the size of pixels is not known.
    """

    name = "hd95"

    def of_distances(self, there: np.ndarray, back: np.ndarray) -> float:
        return float(max(np.percentile(there, 95), np.percentile(back, 95)))


class ASSD(_SurfaceMetric):
    """Average symmetric surface distance in mm: the mean over all voxels of both surfaces.

    A case that was missed counts as the diagonal of its volume; nan if the size of pixels is not known.
    """

    name = "assd"

    def of_distances(self, there: np.ndarray, back: np.ndarray) -> float:
        return float((there.sum() + back.sum()) / (len(there) + len(back)))


class NSD(_SurfaceMetric):
    """Normalised surface Dice: the share of both surfaces that is within a tolerance of the other.

    Nikolov et al. 2021 (doi:10.2196/26151), on surface voxels, all counting the same. A case that was missed counts
    as 0; nan if the size of pixels is not known.

    Parameters
    ----------
    tolerance:
        In mm.
    """

    unit = ""
    higher_is_better = True

    def __init__(self, tolerance: Annotated[float, Field(gt=0)] = 2.0) -> None:
        self.tolerance = tolerance
        self.name = f"nsd_{tolerance:g}mm"

    def missed(self, shape: tuple[int, ...], case: Mapping[str, Any]) -> float:
        return 0.0

    def of_distances(self, there: np.ndarray, back: np.ndarray) -> float:
        most = self.tolerance * (1 + ROUNDING)
        near = (there <= most).sum() + (back <= most).sum()
        return float(near / (len(there) + len(back)))
