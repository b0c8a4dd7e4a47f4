"""Skull, intracranial space, ventricles and sulci of a real head CT, by thresholds and morphology."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from medkit.api import InputError
from medkit.data.volume import Volume
from medkit_phantoms.bleeds import Anatomy

Array = np.ndarray
BONE = (250.0, 160.0, 115.0)
FLUID = 17.0


def positions(volume: Volume) -> Array:
    """(D,3) mm, the first voxel of each slice, evenly spaced or not."""
    if volume.positions is not None:
        return np.asarray(volume.positions, np.float64)
    return volume.affine[:3, 3] + np.arange(volume.depth)[:, None] * volume.affine[:3, 0]


def disc(radius: float) -> Array:
    size = 2 * int(np.ceil(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def enclosed(image: Array, pixel: float) -> Array:
    """(H,W) bool: soft tissue enclosed by bone in one slice, at the threshold that encloses most of it.

    Where partial volume, averaging or a sinus opens the skull, a lower threshold closes it.
    """
    best = np.zeros(image.shape, bool)
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0 / pixel)
    for threshold in BONE:
        ring = cv2.morphologyEx((image > threshold).astype(np.uint8), cv2.MORPH_CLOSE, disc(7 / pixel))
        hole = ndimage.binary_fill_holes(ring) & (ring == 0)
        soft = (hole & (smooth > -12) & (image < 110)).astype(np.uint8)
        soft = cv2.morphologyEx(soft, cv2.MORPH_OPEN, disc(3 / pixel))
        inside = ndimage.binary_fill_holes(cv2.morphologyEx(soft, cv2.MORPH_CLOSE, disc(2 / pixel)))
        inside = ndimage.binary_fill_holes(inside & (ring == 0))  # a calcification is not a hole
        labels, count = ndimage.label(inside)
        if count > 1:  # orbits and sinuses are smaller than the brain next to them
            sizes = np.bincount(labels.ravel())[1:]
            inside = np.isin(labels, 1 + np.flatnonzero(sizes > 0.25 * sizes.max()))
        if inside.sum() > 1.15 * best.sum():
            best = inside
    return best


def intracranial(hu: Array, pixel: float) -> Array:
    """(D,H,W) bool: the space inside the skull; ``pixel`` in mm.

    Raises
    ------
    InputError
        If no slice has any.
    """
    out = np.stack([enclosed(image, pixel) for image in hu])
    for s in range(1, len(out) - 1):  # a slice whose skull would not close, between two that did
        if out[s].sum() < 0.5 * min(out[s - 1].sum(), out[s + 1].sum()):
            out[s] |= out[s - 1] & out[s + 1] & (hu[s] < 110)
    labels, count = ndimage.label(out)
    if not count:
        raise InputError(
            "no space enclosed by skull was found; is this a head CT in HU?",
            hint="scale: cormack reads the scale of the clinical toolbox's templates",
        )
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))


def anatomy_of(volume: Volume) -> Anatomy:
    """What the bleeds have to know about a real head, on its own grid.

    Raises
    ------
    InputError
        If no skull with brain inside is found.
    """
    hu = np.asarray(volume.voxels, np.float32)
    _, down, along = volume.spacing
    pixel = (down + along) / 2
    place = positions(volume)
    normal = np.cross(volume.affine[:3, 1], volume.affine[:3, 2])
    height = place @ (normal / np.linalg.norm(normal))
    gap = float(np.median(np.abs(np.diff(height)))) if len(height) > 1 else 5.0
    brain = intracranial(hu, pixel)
    # Depth in the plane, and in space where a neighbouring slice ends the brain sooner.
    flat = np.stack([cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 5) * pixel for part in brain])
    space = ndimage.distance_transform_edt(np.pad(brain, ((1, 1), (0, 0), (0, 0)), "edge"), (gap, down, along))[1:-1]
    depth = np.where(brain, np.minimum(flat, space), -1).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(part, (0, 0), 0.9 / pixel) for part in hu])
    fluid = brain & (smooth < FLUID)
    csf = np.clip((FLUID + 4 - smooth) / 8, 0, 1) * brain
    deep = np.stack(
        [cv2.morphologyEx(part.astype(np.uint8), cv2.MORPH_OPEN, disc(1.2 / pixel)) for part in fluid & (depth > 22)]
    )
    # Ventricles: fluid in the middle of the head; deep fluid off the middle is a lesion or a fissure.
    x, y, z = coordinates(volume, brain)
    middle = (np.abs(x) < 32) & (np.abs(y) < 62)
    wall = np.stack([
        cv2.distanceTransform(1 - part, cv2.DIST_L2, 5) * pixel if part.any() else np.full(part.shape, 99, np.float32)
        for part in (deep.astype(bool) & middle).astype(np.uint8)
    ])  # fmt: skip
    wall = np.where(wall > 0, wall, -1).astype(np.float32)
    # A wide fluid space that is not a ventricle (an old infarct, a cyst) holds no subarachnoid blood.
    broad = np.stack([cv2.morphologyEx(part.astype(np.uint8), cv2.MORPH_OPEN, disc(4.5 / pixel)) for part in fluid])
    csf = (csf * (wall > 2) * (broad == 0)).astype(np.float32)
    return Anatomy(x, y, z, depth, wall, csf, volume.slice_volumes())


def coordinates(volume: Volume, brain: Array) -> tuple[Array, Array, Array]:
    """Head coordinates in mm (LPS, 0 in the middle of the largest slice's brain), three arrays (D,H,W)."""
    place = positions(volume)
    _, h, w = volume.voxels.shape
    j, i = np.arange(h)[None, :, None], np.arange(w)[None, None]
    axes = [
        (place[:, a][:, None, None] + volume.affine[a, 1] * j + volume.affine[a, 2] * i).astype(np.float32)
        for a in range(3)
    ]
    areas = brain.sum((1, 2))
    wide = areas > 0.8 * areas.max()
    centre = [float(np.mean(axis[wide][brain[wide]])) for axis in axes]
    centre[2] -= 4.0  # the ventricles are a little below the middle of the widest part
    return tuple(axis - np.float32(c) for axis, c in zip(axes, centre, strict=True))  # type: ignore[return-value]
