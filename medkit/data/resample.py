"""Grids with even spacing and right angles, the only ones that NIfTI can hold: finding others, and resampling them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medkit.data.volume import Volume
from medkit.errors import InputError

DRIFT = 0.1  # mm by which a voxel may be off its position on an even, orthogonal grid
AIR = -1024.0


def irregular(volume: Volume) -> str | None:
    """Why no single affine with right angles describes all slices, in words; None if one does."""
    across, x, y, normal = _axes(volume)
    places = volume.slice_positions()
    line = places[0] + np.linspace(0, 1, volume.depth)[:, None] * (places[-1] - places[0])
    if np.linalg.norm(places - line, axis=1).max() > DRIFT:
        gaps = np.abs(np.diff(places @ normal))
        if np.ptp(gaps) > DRIFT / volume.depth:
            return f"its slices lie {gaps.min():.4g} to {gaps.max():.4g} mm apart"
        return "its slices are not on one line"
    sideways = float(np.hypot(across @ x, across @ y))
    if sideways * (volume.depth - 1) > DRIFT:
        angle = np.degrees(np.arctan2(sideways, abs(across @ normal)))
        return f"its slices are sheared by {angle:.1f} degrees, as by a gantry tilt"
    if abs(_skew(volume)) * volume.voxels.shape[1] > DRIFT:
        return "its rows and columns are not at right angles"
    return None


def even(volume: Volume, *, nearest: bool) -> Volume:
    """The volume on a grid with even spacing and right angles that covers all of its slices.

    Pixels keep their size. Slices are as far apart as the smallest gap of the source, but at least a quarter of its
    median gap. Each slice reaches halfway to its neighbours, and the outer ones equally far outwards.

    Parameters
    ----------
    volume:
        (D,H,W) voxels; a volume with such a grid is returned as it is.
    nearest:
        True for masks: every voxel is one of the source's, so that a mask keeps its volume (to half a slice at each of
        its ends); outside it is 0. False for images: linear between slices and pixels, rounded if the source holds
        integers; outside it is air (-1024) in HU, else the smallest value.

    Raises
    ------
    InputError
        if rows and columns are not at right angles, or two slices have the same position.
    """
    problem = irregular(volume)
    if problem is None:
        return volume
    check_resampling(volume)
    _, x, y, normal = _axes(volume)
    down, along = np.linalg.norm(volume.affine[:3, 1:3], axis=0)
    corners = volume.slice_positions()
    if (corners[-1] - corners[0]) @ normal < 0:
        normal = -normal
    places, rows, columns = corners @ normal, corners @ y / down, corners @ x / along
    gaps = np.diff(places)
    step = max(float(gaps.min()), float(np.median(gaps)) / 4)
    first = int(np.floor(-gaps[0] / 2 / step + 1e-6)) + 1
    last = int(np.floor((places[-1] - places[0] + gaps[-1] / 2) / step + 1e-6))
    heights = places[0] + np.arange(first, last + 1) * step
    shape = tuple(
        size + int(np.ceil(np.ptp(shift) - 1e-3))
        for size, shift in zip(volume.voxels.shape[1:], (rows, columns), strict=True)
    )
    between = _nearest(places, heights) if nearest else np.interp(heights, places, np.arange(volume.depth))
    fill = 0.0 if nearest else AIR if volume.units == "HU" else _outside(volume.voxels)
    voxels = np.empty((len(heights), *shape), volume.voxels.dtype)
    for z, position in enumerate(between):
        mixed = np.zeros(shape, np.float32)
        for source, weight in _parts(float(position)):
            offset = rows[source] - rows.min(), columns[source] - columns.min()
            mixed += np.float32(weight) * _placed(volume.voxels[source], shape, offset, fill, nearest)
        voxels[z] = np.rint(mixed) if voxels.dtype.kind in "iu" else mixed
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = normal * step, y * down, x * along
    affine[:3, 3] = normal * heights[0] + y * (rows.min() * down) + x * (columns.min() * along)
    header = {"format": "resampled", "why": problem}
    return replace(volume, voxels=voxels, affine=affine, positions=None, header=header)


def check_resampling(volume: Volume) -> None:
    """Raise, before the work is done, if :func:`even` would refuse a volume.

    Raises
    ------
    InputError
        if rows and columns are not at right angles, or slices turn back or have the same position.
    """
    gaps = np.diff(volume.slice_positions() @ _axes(volume)[3])
    if abs(_skew(volume)) * volume.voxels.shape[1] > DRIFT:
        what = "rows and columns are not at right angles: medkit cannot resample that"
        raise InputError(what, volume.place, "leave the scan out, or resample it by another program first")
    if gaps.size and max(gaps.min(), -gaps.max()) < 0.01:
        what = "slices turn back or have the same position: medkit cannot resample that"
        raise InputError(what, volume.place, "leave the scan out, or keep one slice at each position")


def resampling(volume: Volume) -> str | None:
    """Why and to what :func:`even` resampled a volume, in words; None if it did not."""
    if volume.header.get("format") != "resampled":
        return None
    depth, height, width = volume.voxels.shape
    lengths = " x ".join(f"{length:.4g}" for length in volume.spacing)
    return f"{volume.header['why']}: resampled to {depth} slices of {height} x {width}, {lengths} mm apart"


def _axes(volume: Volume) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The step in mm from slice to slice, and unit vectors along a row, down a column and across the slices."""
    across, down, along = volume.affine[:3, 0], volume.affine[:3, 1], volume.affine[:3, 2]
    x = along / np.linalg.norm(along)
    y = down - (down @ x) * x
    y /= np.linalg.norm(y)
    return across, x, y, np.cross(x, y)


def _skew(volume: Volume) -> float:
    """By how many mm a row is shifted against the one before it."""
    down, along = volume.affine[:3, 1], volume.affine[:3, 2]
    return float(down @ along / np.linalg.norm(along))


def _nearest(places: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """The slice to which each height belongs; ties go to the lower slice, so that none gains by them."""
    return np.searchsorted((places[:-1] + places[1:]) / 2, heights - 1e-6)


def _parts(position: float) -> list[tuple[int, float]]:
    """The slices around a position between slices, with their weights."""
    low = int(position)
    share = position - low
    return [(low, 1.0)] if share < 1e-6 else [(low, 1 - share), (low + 1, share)]


def _outside(voxels: np.ndarray) -> float:
    lowest = float(voxels.min())
    return AIR if lowest <= -500 else lowest


def _placed(
    plane: np.ndarray, shape: tuple[int, ...], offset: tuple[float, float], fill: float, nearest: bool
) -> np.ndarray:
    """A slice placed in a larger one, its first pixel at ``offset`` (row, column); linear unless ``nearest``."""
    found = plane.astype(np.float32)
    for axis in (0, 1):
        whole = int(np.floor(offset[axis] + 0.5 if nearest else offset[axis] + 1e-3))
        share = 0.0 if nearest else max(0.0, offset[axis] - whole)
        room = shape[axis] + 1 - found.shape[axis] - whole
        widths = [(0, 0), (0, 0)]
        widths[axis] = (whole, max(room, 0))
        laid = np.pad(found, widths, constant_values=fill)
        size = shape[axis]
        here = np.take(laid, range(size), axis)
        if share > 1e-3:
            widths[axis] = (1, 0)
            before = np.take(np.pad(laid, widths, constant_values=fill), range(size), axis)
            here = (1 - share) * here + share * before
        found = here
    return found
