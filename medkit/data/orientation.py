"""Turning voxels to (slice, row, column) = (head, back, left), the same for every format, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Between RAS, as in NIfTI, and LPS."""
AXES = axcodes2ornt(("S", "P", "L"))


@dataclass
class Turned:
    """Axial voxels.

    Attributes
    ----------
    voxels:
        (D,H,W), contiguous: axial slices, rows to the back, columns to the left.
    affine:
        4x4 from their indices to patient coordinates in mm, LPS.
    back:
        (3,2) orientation by which :func:`turn_back` restores the original axes.
    """

    voxels: np.ndarray
    affine: np.ndarray
    back: np.ndarray

    @property
    def as_it_was(self) -> bool:
        return bool(np.array_equal(self.back, [[0, 1], [1, 1], [2, 1]]))


def turn(voxels: np.ndarray, affine: np.ndarray) -> Turned:
    """Turn (any 3-D) voxels to the nearest axes; ``affine`` (4x4) goes from their indices to mm in RAS."""
    own = io_orientation(affine)
    there = ornt_transform(own, AXES)
    found = np.ascontiguousarray(apply_orientation(voxels, there))
    return Turned(found, LPS @ affine @ inv_ornt_aff(there, voxels.shape), ornt_transform(AXES, own))


def turn_back(voxels: np.ndarray, back: np.ndarray) -> np.ndarray:
    """(D,H,W) voxels in the axes that they had before :func:`turn`."""
    return np.asarray(apply_orientation(voxels, back))
