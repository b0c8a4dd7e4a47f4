"""A volume: voxels, their place in the patient, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medkit.errors import InputError


@dataclass
class Volume:
    """Voxels on a grid.

    Attributes
    ----------
    voxels:
        (D,H,W): slice, row, column. HU (float32 or int16) for CT, stored units otherwise, uint8 for masks.
    affine:
        4x4 float64 from (slice, row, column, 1) indices to patient coordinates in mm, axes LPS as in DICOM.
        A gantry tilt makes it sheared.
    positions:
        (D,3) mm, the true centre-of-first-voxel of each slice where slices are not evenly spaced, else None.
    header:
        What the reader kept to write results back on this grid; never patient names in logs.
    """

    voxels: np.ndarray
    affine: np.ndarray = field(default_factory=lambda: np.eye(4))
    positions: np.ndarray | None = None
    header: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3:
            raise InputError(f"a volume is (D,H,W) but these voxels have shape {self.voxels.shape}")
        self.affine = np.asarray(self.affine, dtype=np.float64)
        if self.affine.shape != (4, 4):
            raise InputError(f"an affine is 4x4 but this one is {self.affine.shape}")
        if not np.isfinite(self.affine).all() or abs(np.linalg.det(self.affine[:3, :3])) < 1e-9:
            raise InputError(f"the affine is singular or not finite: {self.affine[:3].tolist()}")
        if self.positions is not None and self.positions.shape != (self.depth, 3):
            raise InputError(f"{self.depth} slices need ({self.depth},3) positions, got {self.positions.shape}")

    @property
    def depth(self) -> int:
        return int(self.voxels.shape[0])

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighbouring rows of voxels: along the slice normal, down a column, along a row."""
        return spacing_of(self.affine)

    def slice_positions(self) -> np.ndarray:
        """(D,3) mm: where each slice's first voxel lies."""
        if self.positions is not None:
            return self.positions
        return self.affine[:3, 3] + np.arange(self.depth)[:, None] * self.affine[:3, 0]

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm^3 (= microlitres): the determinant of the affine, so right under tilt too."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def slice_volumes(self) -> np.ndarray:
        """(D,) mm^3 a voxel stands for in each slice: half the gap to each neighbour when spacing varies."""
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
        return Volume(voxels, self.affine, self.positions, self.header)

    def same_grid(self, other: Volume, tolerance: float = 1e-2) -> str | None:
        """None if ``other`` lies on this grid (corners within ``tolerance`` mm), else what differs, in words."""
        if self.voxels.shape != other.voxels.shape:
            return f"shape {other.voxels.shape} against {self.voxels.shape}"
        corner = np.array([*self.voxels.shape, 1.0])
        corner[:3] -= 1
        far = np.abs((self.affine - other.affine) @ np.stack([[0, 0, 0, 1], corner], 1)).max()
        return None if far <= tolerance else f"corners up to {far:.3g} mm apart"


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Distance in mm between neighbouring voxels: along the slice normal, down a column, along a row."""
    across, down, along = affine[:3, 0], affine[:3, 1], affine[:3, 2]
    normal = np.cross(down, along)
    normal /= np.linalg.norm(normal)
    return float(abs(across @ normal)), float(np.linalg.norm(down)), float(np.linalg.norm(along))
