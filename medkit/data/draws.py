"""What a training item takes from its case: one slice, patches of one slice or of the volume, or all slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np

from medkit.data.sample import Sample

Unit = Literal["slice", "volume", "patch", "patch3d"]
Draw = Literal["uniform", "positive"]
DRAWN = {
    "uniform": "every slice of a case is equally likely",
    "positive": "a case with a positive mask gives the slice of a random positive voxel",
}
"""What each way of drawing slices means, for readers of the results."""

DRAWN_3D = {
    "uniform": "patches lie anywhere in their volumes",
    "positive": "a third of the patches of a case with a positive mask, at least one, hold a random positive voxel",
}
"""The same for patches of volumes."""


def drawn_in_words(draw: str, unit: str) -> str:
    """What a way of drawing means for the items of a unit; empty for an unknown one."""
    return (DRAWN_3D if unit == "patch3d" else DRAWN).get(draw, "")


Sides = tuple[int, int, int]
Arrays = dict[str, np.ndarray]
Chain = Callable[[Arrays, np.random.Generator], Arrays]


class Drawn(NamedTuple):
    """What was drawn from a case; several channels come after the slices, (n,C,H,W).

    Attributes
    ----------
    arrays:
        ``image`` and, if present, ``mask`` and ``target``, (n,H,W); for patches of volumes (n,d,h,w).
    label:
        That of the slice if it was drawn with its mask, else of the case.
    z:
        The slice's number; None for all slices.
    """

    arrays: Arrays
    label: float
    z: int | None = None


class ItemDraw(Protocol):
    """Takes an item from a case, with the item's random generator, and augments it."""

    @property
    def unit(self) -> Unit: ...

    @property
    def each(self) -> int:
        """How many entries of a batch's names and labels one item has; a volume counts as one."""
        ...

    def draw(self, sample: Sample, rng: np.random.Generator) -> Drawn: ...

    def augmented(self, arrays: Arrays, chain: Chain, rng: np.random.Generator) -> Arrays: ...


def draw_of(
    unit: Unit = "slice", prefer: Draw = "uniform", *, patches: int = 8, patch_size: int | Sides = 64
) -> SliceDraw | VolumeDraw | PatchDraw | PatchDraw3d:
    """The draw for a unit, with the settings of a recipe's stage."""
    if unit == "volume":
        return VolumeDraw()
    if unit == "patch3d":
        sides = (patch_size, patch_size, patch_size) if isinstance(patch_size, int) else patch_size
        return PatchDraw3d(patches, sides, prefer)
    assert isinstance(patch_size, int)
    return PatchDraw(patches, patch_size, prefer) if unit == "patch" else SliceDraw(prefer)


@dataclass(frozen=True)
class VolumeDraw:
    """All slices of a case."""

    unit: Unit = "volume"
    each: int = 1

    def draw(self, sample: Sample, rng: np.random.Generator) -> Drawn:
        return Drawn(_arrays(sample, slice(None)), sample.label)

    def augmented(self, arrays: Arrays, chain: Chain, rng: np.random.Generator) -> Arrays:
        return chain(arrays, rng)


@dataclass(frozen=True)
class SliceDraw:
    """One slice of a case.

    Parameters
    ----------
    prefer:
        ``uniform``: any slice; ``positive``: that of a random positive voxel of the mask, or any if there is none (as
        published for SMART-Net: larger bleeds are seen more often).
    """

    prefer: Draw = "uniform"
    unit: Unit = "slice"
    each: int = 1

    def draw(self, sample: Sample, rng: np.random.Generator) -> Drawn:
        z = choose_slice(sample, self.prefer, rng)
        counts = sample.positive_voxels
        label = sample.label if counts is None else float(counts[z] > 0)
        return Drawn(_arrays(sample, slice(z, z + 1)), label, z)

    def augmented(self, arrays: Arrays, chain: Chain, rng: np.random.Generator) -> Arrays:
        return chain(arrays, rng)


@dataclass(frozen=True)
class PatchDraw:
    """``patches`` squares of ``size`` pixels in one slice's foreground, at the same places in image and target."""

    patches: int = 8
    size: int = 64
    prefer: Draw = "uniform"
    unit: Unit = "patch"

    @property
    def each(self) -> int:
        return self.patches

    def draw(self, sample: Sample, rng: np.random.Generator) -> Drawn:
        z = choose_slice(sample, self.prefer, rng)
        return Drawn(self.cut(_arrays(sample, slice(z, z + 1)), rng), sample.label, z)

    def cut(self, arrays: Arrays, rng: np.random.Generator) -> Arrays:
        """Squares inside the foreground's bounding box in one slice, (1,H,W) to (patches,size,size)."""
        size = self.size
        guide = arrays.get("target", arrays["image"])[0] > 0
        guide = guide.any(0) if guide.ndim == 3 else guide
        height, width = guide.shape
        grow = [(0, max(0, size - height)), (0, max(0, size - width))]
        if grow[0][1] or grow[1][1]:
            arrays = {name: np.pad(array, [(0, 0)] * (array.ndim - 2) + grow) for name, array in arrays.items()}
            height, width = max(height, size), max(width, size)
        rows, columns = np.flatnonzero(guide.any(1)), np.flatnonzero(guide.any(0))
        corners = []
        for found, full in ((rows, height), (columns, width)):
            low = int(found[0]) if len(found) else 0
            high = int(found[-1]) + 1 if len(found) else full
            # If the box is smaller than the patch, the patch starts early enough to contain it.
            low = min(low, full - size)
            corners.append(rng.integers(low, max(low, min(high, full) - size) + 1, self.patches))
        return {
            name: np.stack([a[0, ..., y : y + size, x : x + size] for y, x in zip(*corners, strict=True)])
            for name, a in arrays.items()
        }

    def augmented(self, arrays: Arrays, chain: Chain, rng: np.random.Generator) -> Arrays:
        """Augment every patch separately."""
        parts = [chain({k: v[i : i + 1] for k, v in arrays.items()}, rng) for i in range(self.patches)]
        return {k: np.concatenate([part[k] for part in parts]) for k in arrays}


@dataclass(frozen=True)
class PatchDraw3d:
    """``patches`` boxes of ``sides`` (depth, height, width) from a volume, at the same places in all its arrays.

    They are inside the volume; if a side of it is shorter, zeros are added at both ends, as for sliding windows. With
    ``prefer: positive``, a third of them, at least one, hold a random positive voxel of the mask, if there is one
    (Isensee et al. 2021, nnU-Net). Labels are those of cases.
    """

    patches: int = 8
    sides: Sides = (64, 64, 64)
    prefer: Draw = "uniform"
    unit: Unit = "patch3d"

    @property
    def each(self) -> int:
        return self.patches

    def draw(self, sample: Sample, rng: np.random.Generator) -> Drawn:
        arrays = _arrays(sample, slice(None))
        height, width = sample.image.shape[-2:]
        found = [
            self._box((len(sample.image), height, width), self._held(sample, i, rng), rng) for i in range(self.patches)
        ]
        return Drawn(
            {name: np.stack([_boxed(array, box) for box in found]) for name, array in arrays.items()}, sample.label
        )

    def _held(self, sample: Sample, number: int, rng: np.random.Generator) -> Sides | None:
        """A positive voxel (z, y, x) that the patch of this number has to hold; None if it may be anywhere."""
        counts = sample.positive_voxels
        if self.prefer != "positive" or number >= max(1, self.patches // 3) or counts is None or not counts.sum():
            return None
        assert sample.mask is not None
        z = choose_slice(sample, "positive", rng)
        rows, columns = np.nonzero(np.asarray(sample.mask)[z])
        chosen = int(rng.integers(len(rows)))
        return z, int(rows[chosen]), int(columns[chosen])

    def _box(self, shape: Sides, held: Sides | None, rng: np.random.Generator) -> list[tuple[slice, tuple[int, int]]]:
        """For each axis, the range to cut, and how many zeros come before and after it."""
        box = []
        for axis, (full, side) in enumerate(zip(shape, self.sides, strict=True)):
            missing = max(0, side - full)
            low, high = 0, max(0, full - side)
            if held is not None:
                low, high = max(low, held[axis] - side + 1), min(high, held[axis])
            start = int(rng.integers(low, high + 1))
            box.append((slice(start, min(full, start + side)), (missing // 2, missing - missing // 2)))
        return box

    def augmented(self, arrays: Arrays, chain: Chain, rng: np.random.Generator) -> Arrays:
        """Augment every patch separately, with all its slices alike."""
        parts = [chain({k: v[i] for k, v in arrays.items()}, rng) for i in range(self.patches)]
        return {k: np.stack([part[k] for part in parts]) for k in arrays}


def _boxed(array: np.ndarray, box: list[tuple[slice, tuple[int, int]]]) -> np.ndarray:
    """The box cut out of (D,H,W) or (D,C,H,W), with its zeros."""
    (depth, _), (rows, _), (columns, _) = box
    found = array[depth, ..., rows, columns]
    zeros = [pad for _, pad in box]
    if not any(map(any, zeros)):
        return found
    return np.pad(found, [zeros[0], *[(0, 0)] * (array.ndim - 3), *zeros[1:]])


def choose_slice(sample: Sample, prefer: Draw, rng: np.random.Generator) -> int:
    """The slice of a random positive voxel if these are preferred; otherwise, or if there is none, any slice."""
    depth = len(sample.image)
    weight = sample.positive_voxels
    if prefer == "positive" and weight is not None and (total := weight.sum()) > 0:
        return int(rng.choice(depth, p=weight / total))
    return int(rng.integers(depth))


def _arrays(sample: Sample, pick: slice) -> Arrays:
    """Views of the arrays as plain ones, because slicing NumPy's memmap is slow."""
    found = {"image": np.asarray(sample.image)[pick]}
    if sample.mask is not None:
        found["mask"] = np.asarray(sample.mask)[pick]
    if sample.target is not None:
        found["target"] = np.asarray(sample.target)[pick]
    return found
