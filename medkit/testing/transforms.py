"""The conformance check of steps of preparation (:mod:`medkit.testing`)."""

from __future__ import annotations

import copy
from typing import Any

import cv2
import numpy as np

LOSSLESS, LOSSY = 0.9, 0.6
"""Least Dice of a block with itself after a step and its ``restore``, if pixels keep their size, and if they grow."""
INSIDE = 0.75
"""Least share of what a changed block changes that lies in the block's mask afterwards."""


def check_transform(transform: Any, image: np.ndarray | None = None) -> None:
    """Keys and depth stay; the same input gives the same output, whatever came before; the image does not depend on
    mask and target; ``restore`` puts a mask back where it was, within what resampling loses.

    A transform that makes channels makes as many as it says. ``image`` (D,H,W) is tried in place of noise around 30.
    """
    fresh, unused = copy.deepcopy(transform), copy.deepcopy(transform)
    rng = np.random.default_rng(0)
    voxels = rng.normal(30, 30, (3, 40, 36)).astype(np.int16) if image is None else image
    mask = (rng.random(voxels.shape) > 0.5).astype(np.uint8)
    given = voxels.copy()
    first = transform.apply({"image": given, "mask": mask.copy()})
    assert np.array_equal(given, voxels), (
        "apply() changes the voxels it was given, which the source may keep: copy them"
    )
    second = transform.apply({"image": voxels.copy(), "mask": mask.copy()})
    assert set(first) == {"image", "mask"}, "a transform must keep the keys"
    assert all(len(array) == len(voxels) for array in first.values()), "a transform must keep the number of slices"
    image = first["image"]
    assert image.dtype.kind in "fiu", f"the image holds {image.dtype} afterwards, not numbers"
    assert np.isfinite(image).all(), "the image is not finite afterwards (NaN or infinite)"
    if hasattr(transform, "channels"):
        promised, made = transform.channels(1), image.shape[1] if image.ndim == 4 else 1
        assert made == promised, f"channels(1) says {promised}, but apply() makes {made}"
        image = image[:, 0] if image.ndim == 4 else image
    assert image.shape == first["mask"].shape, "image and mask have different shapes afterwards"
    assert np.array_equal(first["image"], second["image"]), "a transform must be deterministic"
    assert set(np.unique(first["mask"])) <= {0, 1}, "the mask is no longer 0 and 1"
    back = transform.restore(image.astype(np.float32), voxels.shape[1:])
    assert back.shape == voxels.shape, f"restore() gives {back.shape}, but the source was {voxels.shape}"
    _check_image_alone(transform, voxels, mask, first["image"])
    _check_remembers_nothing(transform, fresh, voxels)
    _check_together(transform, voxels)
    _check_put_back(transform, unused, voxels)


def _check_image_alone(transform: Any, voxels: np.ndarray, mask: np.ndarray, found: np.ndarray) -> None:
    """The image comes out the same with another mask, without one, and beside a target."""
    for beside in ({"mask": 1 - mask}, {"mask": np.zeros_like(mask)}, {}, {"mask": mask, "target": voxels[:, ::-1]}):
        arrays = {"image": voxels.copy(), **{name: array.copy() for name, array in beside.items()}}
        names = set(arrays)
        try:
            made = transform.apply(arrays)
        except KeyError as error:
            raise AssertionError(f"apply() needs {error}, which a case to predict does not have") from error
        assert set(made) == names, f"of {sorted(names)} it returns {sorted(made)}: a transform must keep the keys"
        assert np.array_equal(made["image"], found), (
            "the image depends on the mask or the target: the answer would be in what the network sees, and a new case "
            "has neither"
        )


def _check_remembers_nothing(transform: Any, fresh: Any, voxels: np.ndarray) -> None:
    """A volume comes out the same whatever volumes were prepared before."""
    darker = np.minimum(voxels, np.median(voxels).astype(voxels.dtype))
    for each in (darker, voxels):
        a, b = (step.apply({"image": each.copy()})["image"] for step in (transform, fresh))
        assert np.array_equal(a, b), (
            "apply() remembers earlier volumes (fitted to the first one?): cases are prepared in any order, by several "
            "processes, and kept: give what it needs as arguments of the constructor"
        )


def block(shape: tuple[int, ...]) -> np.ndarray:
    """A mask (D,H,W) of a block left of and above the middle, so that it is seen when it is moved or mirrored."""
    made = np.zeros(shape, np.uint8)
    height, width = shape[1:]
    made[:, round(0.25 * height) : round(0.475 * height) + 1, round(0.11 * width) : round(0.47 * width)] = 1
    return made


def _check_together(transform: Any, voxels: np.ndarray) -> None:
    """Image and mask move together: what changes in a block of the image, changes in the block's mask."""
    marked = block(voxels.shape)
    made = []
    for share in (0.1, 0.9):
        image = voxels.copy()
        image[marked > 0] = np.quantile(voxels, share).astype(voxels.dtype)
        made.append(transform.apply({"image": image, "mask": marked.copy()}))
    images = [np.asarray(arrays["image"], np.float64) for arrays in made]
    if images[0].shape != images[1].shape:
        return
    changed = np.abs(images[1] - images[0])
    share = inside(changed.sum(1) if changed.ndim == 4 else changed, made[1]["mask"])
    assert share >= INSIDE, (
        f"image and mask do not move together: only {share:.0%} of what was changed in the image under a mask lies "
        "under it afterwards"
    )


def inside(changed: np.ndarray, mask: np.ndarray) -> float:
    """The share of the larger changes (D,H,W) that lies in a mask or right beside it; 1 if nothing has changed."""
    large = np.where(changed > changed.max() / 2, changed, 0)
    if large.sum() == 0:
        return 1.0
    wider = np.stack([cv2.dilate(np.ascontiguousarray(each, np.uint8), np.ones((3, 3), np.uint8)) for each in mask])
    return float(large[wider > 0].sum() / large.sum())


def _check_put_back(transform: Any, unused: Any, voxels: np.ndarray) -> None:
    """A step's ``restore``, also that of one that has not seen the volume, puts a mask back where it was."""
    shape = (voxels.shape[1], voxels.shape[2])
    marked = block(voxels.shape)
    marked[len(marked) // 2 :] = marked[len(marked) // 2 :, :, ::-1]  # slices in another order would be seen
    restored = []
    for mask in (marked, np.ones_like(marked)):
        prepared = transform.apply({"image": voxels.copy(), "mask": mask})["mask"].astype(np.float32)
        scale = max(a / b for a, b in zip(shape, prepared.shape[1:], strict=True))
        there = transform.restore(prepared.copy(), shape)
        try:
            again = unused.restore(prepared.copy(), shape)
        except Exception as error:
            what = "restore() fails in a step that has not prepared this volume itself, as after a run is opened again"
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        assert np.array_equal(there, again), "restore() depends on the volume that was prepared last: it gets the shape"
        restored.append(there >= 0.5)
    found, kept = restored
    assert kept.any(), "restore() makes nothing of a mask of ones: no prediction would come back"
    wanted = (marked > 0) & kept  # what was cut off cannot come back
    total = int(wanted.sum() + (found & kept).sum())
    dice = 2 * int((wanted & found).sum()) / total if total else 1.0
    least = LOSSLESS if scale <= 1 else max(LOSSY, LOSSLESS - 0.1 * (scale - 1))
    assert dice >= least, (
        f"restore() does not put a mask back where it was: Dice {dice:.2f}, at least {least:.2f} is expected. It has "
        "to undo what apply() does to positions (flips, shifts, crops), or predictions lie elsewhere than the masks"
    )
