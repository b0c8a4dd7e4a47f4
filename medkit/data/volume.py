"""A volume: voxels, their position in the patient, and where they came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medkit.data.mend import Name
from medkit.errors import InputError

Units = Literal["HU", "stored"]
ROUNDED = 1.2e-3
"""Radians by which an orientation near half a turn may be off if kept as a float32 quaternion."""
SMALLEST, LARGEST = 0.01, 50.0
"""Sides of voxels in mm beyond which their unit is in doubt."""


@dataclass
class Volume:
    """Voxels on a grid.

    Attributes
    ----------
    voxels:
        (D,H,W): slice, row, column. HU (float32 or int16) for CT, stored units otherwise, uint8 for masks.
    affine:
        4x4 float64 from (slice, row, column, 1) indices to patient coordinates in mm, axes LPS as in DICOM.
        A gantry tilt shears it.
    positions:
        (D,3) mm, the true centre of the first voxel of each slice if slices are unevenly spaced, else None.
    header:
        What the reader kept to write results back on this grid. It may name a patient, so it is never logged.
    units:
        ``HU`` if the file or the source says so and nothing contradicts it, ``stored`` for anything else, None if
        unknown: then the voxels decide (:func:`medkit.data.units.require_hu`).
    spacing_known:
        False if a side of the voxels is made up, as for a PNG or a radiograph: then volumes in mm^3 are unknown.
    notes:
        Messages of the reader, such as slices that the series lacks.
    """

    voxels: np.ndarray
    affine: np.ndarray = field(default_factory=lambda: np.eye(4))
    positions: np.ndarray | None = None
    header: dict[str, Any] = field(default_factory=dict)
    units: Units | None = None
    spacing_known: bool = True
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3:
            raise InputError(f"a volume is (D,H,W), but these voxels have shape {self.voxels.shape}")
        self.affine = np.asarray(self.affine, dtype=np.float64)
        if self.affine.shape != (4, 4):
            raise InputError(f"an affine is 4x4, but this one has shape {self.affine.shape}")
        if is_singular(self.affine):
            raise InputError(f"the affine is singular or not finite: {self.affine[:3].tolist()}")
        if self.positions is not None and self.positions.shape != (self.depth, 3):
            raise InputError(f"{self.depth} slices need ({self.depth},3) positions, got {self.positions.shape}")

    @property
    def depth(self) -> int:
        return int(self.voxels.shape[0])

    @property
    def place(self) -> str | None:
        """The file or folder that was read, for messages; None if the volume was not read from one."""
        files = self.header.get("files")
        if files:
            return str(files[0]) if len(files) == 1 else str(Path(files[0]).parent)
        return self.header.get("file")

    @property
    def mended(self) -> tuple[Name, ...]:
        """By which names its DICOM headers were mended (:mod:`medkit.data.mend`)."""
        return tuple(self.header.get("mended", ()))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighbouring voxels: along the slice normal, down a column, along a row."""
        return spacing_of(self.affine)

    def slice_positions(self) -> np.ndarray:
        """(D,3) mm: the centre of each slice's first voxel."""
        if self.positions is not None:
            return self.positions
        return self.affine[:3, 3] + np.arange(self.depth)[:, None] * self.affine[:3, 0]

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm^3 (= microlitres): the determinant of the affine, so right under tilt too."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def slice_volumes(self) -> np.ndarray:
        """(D,) mm^3 for which a voxel stands in each slice; with uneven spacing, it reaches halfway to each neighbour.

        All are nan if the spacing is unknown.
        """
        if not self.spacing_known:
            return np.full(self.depth, np.nan)
        if self.positions is None or self.depth < 2:
            return np.full(self.depth, self.voxel_volume)
        _, down, along = self.spacing
        normal = np.cross(self.affine[:3, 1], self.affine[:3, 2])
        gaps = np.abs(np.diff(self.positions @ (normal / np.linalg.norm(normal))))
        height = np.empty(self.depth)
        height[1:-1] = (gaps[:-1] + gaps[1:]) / 2
        height[0], height[-1] = gaps[0], gaps[-1]
        return height * down * along

    def like(self, voxels: np.ndarray) -> Volume:
        """Other voxels on this grid; shapes must agree."""
        if voxels.shape != self.voxels.shape:
            raise InputError(f"voxels of shape {voxels.shape} do not fit the grid {self.voxels.shape}")
        return replace(self, voxels=voxels)

    def same_grid(self, other: Volume, tolerance: float | None = None) -> str | None:
        """None if ``other`` is on this grid, else what differs, in words.

        The corners of every slice are compared. By default they may be apart by a twentieth of the smallest side of a
        voxel (at least 0.01 mm), plus 0.0012 of their distance from the first voxel, because a NIfTI qform rounds the
        orientation to float32 and so turns large grids about it; but never by a voxel. ``tolerance`` is in mm.
        """
        if self.voxels.shape != other.voxels.shape:
            return f"shape {other.voxels.shape} against {self.voxels.shape}"
        corners = self._corners()
        apart = np.linalg.norm(corners - other._corners(), axis=-1)
        allowed: Any = tolerance
        if tolerance is None:
            side = min(self.spacing)
            away = np.linalg.norm(corners - corners[0, 0], axis=-1)
            allowed = np.minimum(max(1e-2, 0.05 * side) + ROUNDED * away, max(1e-2, side))
        return None if (apart <= allowed).all() else f"corners up to {apart.max():.3g} mm apart"

    def _corners(self) -> np.ndarray:
        """(D,4,3) mm: the centres of the corner voxels of each slice."""
        first = self.slice_positions()
        down, along = (self.affine[:3, axis] * (self.voxels.shape[axis] - 1) for axis in (1, 2))
        return first[:, None] + np.stack([np.zeros(3), down, along, down + along])


def is_singular(affine: np.ndarray) -> bool:
    """Whether an affine, in whatever unit, is not finite or has axes that do not span space."""
    axes = affine[:3, :3]
    if not np.isfinite(affine).all():
        return True
    lengths = np.linalg.norm(axes, axis=0)
    return bool((lengths == 0).any() or abs(np.linalg.det(axes / lengths)) < 1e-6)


def odd_size(spacing: Sequence[float]) -> str | None:
    """A note on voxels whose size in mm no clinical scanner produces, so that the unit may be wrong; otherwise None."""
    if all(SMALLEST <= side <= LARGEST for side in spacing):
        return None
    size = " x ".join(f"{side:.4g}" for side in spacing)
    return f"voxels are {size} mm: is this unit right? Volumes and distances depend on it"


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Distance in mm between neighbouring voxels: along the slice normal, down a column, along a row."""
    across, down, along = affine[:3, 0], affine[:3, 1], affine[:3, 2]
    normal = np.cross(down, along)
    normal /= np.linalg.norm(normal)
    return float(abs(across @ normal)), float(np.linalg.norm(down)), float(np.linalg.norm(along))
