"""Are two scans a pair? Checks of low-dose and full-dose images (or any image and its target) that share a grid.

The reader compares geometry; this module checks voxels: the right patient, the right slice, no shift, no offset. All
is estimated on a few middle slices, smoothed, so that noise does not decide.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter

from medkit.data.volume import Volume
from medkit.errors import InputError

SLICES = 3
"""Slices to check, around the middle; their median decides."""
SMOOTH = 2.0
"""Standard deviation in pixels of the smoothing before images are compared."""
SHIFT = 1.5
"""Pixels by which a pair may be shifted in the plane."""
ALIKE = 0.3
"""Smallest correlation of smoothed slices that show the same thing."""
OTHER = 0.5
"""Another slice is the true partner if it leaves less than this fraction of the difference (1 - correlation)."""
CLEARLY = 1e-4
"""Difference in correlation below which two slices fit equally well."""
OFFSET = 20.0
"""HU by which the median of a pair may differ inside the body."""
AIR = -500.0
"""HU below which a voxel is air; a scan without air is not taken as HU."""
BODY = (-500.0, 1000.0)
"""Range in HU of the voxels whose offset is measured."""


def check_pair(image: Volume, target: Volume, where: str) -> None:
    """Raise if ``target`` does not show the same as ``image``.

    Slices that are constant in either (empty ones at the ends of a scan) are skipped. The offset is checked only if one
    of the two is a scan in HU, that is, contains air.

    Parameters
    ----------
    where:
        What errors name, such as the target's path.

    Raises
    ------
    InputError
        if only one of the two shows anything, the pair is shifted in the plane by more than 1.5 pixels, another slice
        fits clearly better, smoothed slices correlate by less than 0.3, or differences inside the body have a median
        beyond 20 HU.
    """
    known = [_prepared(volume) for volume in (image.voxels, target.voxels)]
    middle = _middle(image.depth)
    shown = [any(z in slices for z in middle) for slices in known]
    if shown[0] != shown[1]:
        what = f"the middle slices of the {'target' if shown[0] else 'image'} are empty"
        raise InputError(what, where, "do the two belong to the same patient and scan?")
    looked = [z for z in middle if all(z in slices for slices in known)]
    if looked:
        _check_offset(image.voxels[looked], target.voxels[looked], where)
        ours, theirs = known
        _check_order(ours, theirs, looked, image.depth, where)
        _check_alike(ours, theirs, looked, where)
        _check_shift(ours, theirs, looked, where)


def shift(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """(rows, columns) by which ``b`` (H,W) is shifted down and right against ``a``: the peak of their correlation.

    A parabola through its neighbours gives the peak to a fraction of a pixel. Images wrap around at their borders,
    where there is air; padding with zeros would pull the peak towards no shift.
    """
    correlation = fft.irfft2(np.conj(fft.rfft2(a)) * fft.rfft2(b), a.shape)
    peak = np.unravel_index(int(correlation.argmax()), correlation.shape)
    found = []
    for axis, at in enumerate(peak):
        line = np.take(correlation, peak[1 - axis], axis=1 - axis)
        before, here, after = line[at - 1], line[at], line[(at + 1) % len(line)]
        bend = before - 2 * here + after
        place = float(at) + (float((before - after) / (2 * bend)) if bend < 0 else 0.0)
        found.append(place - len(line) if place > len(line) / 2 else place)
    return found[0], found[1]


def _middle(depth: int) -> list[int]:
    first = max(0, depth // 2 - SLICES // 2)
    return list(range(first, min(depth, first + SLICES)))


Slices = dict[int, np.ndarray]


def _prepared(voxels: np.ndarray) -> Slices:
    """The slices to compare, by number: smoothed, with mean 0 and norm 1; without constant ones."""
    depth, middle = len(voxels), _middle(len(voxels))
    wanted = {*range(max(0, middle[0] - 1), min(depth, middle[-1] + 2)), depth // 4, depth - 1 - depth // 4}
    slices = {}
    for z in sorted(wanted):
        smooth = gaussian_filter(voxels[z].astype(np.float32), SMOOTH, mode="nearest")
        smooth -= smooth.mean()
        norm = float(np.linalg.norm(smooth))
        if norm > 1e-3 * np.sqrt(smooth.size):
            slices[z] = smooth / norm
    return slices


def _alike(ours: Slices, theirs: Slices, pairs: Sequence[tuple[int, int]]) -> float:
    """Median correlation of pairs of slices, ours and theirs; nan if a slice is missing because it is constant."""
    if not all(a in ours and b in theirs for a, b in pairs):
        return float("nan")
    return float(np.median([(ours[a] * theirs[b]).sum() for a, b in pairs]))


def _check_alike(ours: Slices, theirs: Slices, looked: list[int], where: str) -> None:
    alike = _alike(ours, theirs, [(z, z) for z in looked])
    if alike < ALIKE:
        raise InputError(
            f"image and target show different things (their middle slices correlate by {alike:.2f})",
            where,
            "do they belong to the same patient and scan?",
        )


def _check_order(ours: Slices, theirs: Slices, looked: list[int], depth: int, where: str) -> None:
    quarter = depth // 4
    for found, slices, partner in (
        ("the target's previous slice fits better", looked, lambda z: z - 1),
        ("the target's next slice fits better", looked, lambda z: z + 1),
        ("the target's slices are in reverse order", [quarter, depth - 1 - quarter], lambda z: depth - 1 - z),
    ):
        own = _alike(ours, theirs, [(z, z) for z in slices])
        there = _alike(ours, theirs, [(z, partner(z)) for z in slices])
        if there > own + CLEARLY and 1 - there < OTHER * (1 - own):
            raise InputError(
                f"slices are not paired: {found} (correlation {there:.4f} against {own:.4f})",
                where,
                "are slices missing, or is the order of one of the two wrong?",
            )


def _check_shift(ours: Slices, theirs: Slices, looked: list[int], where: str) -> None:
    shifts = np.median([shift(ours[z], theirs[z]) for z in looked], axis=0)
    if np.hypot(*shifts) > SHIFT:
        down, right = (float(np.round(value, 1)) + 0.0 for value in shifts)  # no -0.0
        raise InputError(
            f"the target is shifted against the image by {down:+.1f} rows and {right:+.1f} columns",
            where,
            f"pairs may differ by {SHIFT:g} pixels: register them first",
        )


def _check_offset(image: np.ndarray, target: np.ndarray, where: str) -> None:
    scan = min(image, target, key=lambda voxels: float(voxels.min()))
    if scan.min() > AIR:
        return
    body = (scan > BODY[0]) & (scan < BODY[1])
    if not body.any():
        return
    offset = float(np.median(image[body].astype(np.float32) - target[body].astype(np.float32)))
    if abs(offset) > OFFSET:
        raise InputError(
            f"inside the body, the image differs by {offset:+.0f} HU from the target",
            where,
            "has one of them lost its RescaleIntercept, or been windowed?",
        )
