"""Preparation of images: deterministic steps from source voxels to what a network sees.

Arrays are (D,H,W). ``image`` and ``target`` get every step; ``mask`` follows geometry only, by nearest neighbour.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import cv2
import numpy as np
from annotated_types import Gt

Arrays = dict[str, np.ndarray]
IMAGES = ("image", "target")
VERSION = 2  # part of the cache key: raise it when a step's numbers change


class Step:
    """A step that keeps the shape: nothing to restore."""

    def restore(self, array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        return array


@dataclass(frozen=True)
class Window(Step):
    """Map HU from ``low`` to ``high`` linearly to [0,1] and clip.

    Parameters
    ----------
    low:
        HU that becomes 0.
    high:
        HU that becomes 1.
    """

    low: float = 0.0
    high: float = 80.0

    def __post_init__(self) -> None:
        if not self.high > self.low:
            raise ValueError(f"the window's high end {self.high} is not above its low end {self.low}")

    def apply(self, arrays: Arrays) -> Arrays:
        for name in IMAGES:
            if name in arrays:
                self.question(name, arrays[name])
                arrays[name] = self.scaled(arrays[name])
        return arrays

    def question(self, name: str, voxels: np.ndarray) -> None:
        """Warn of values that have been scaled to [0,1] already."""
        if voxels.size and voxels.max() <= 1 and voxels.min() >= 0 and self.high > 1:
            warnings.warn(f"'{name}' lies in [0, 1]: is this in HU?", stacklevel=3)

    def scaled(self, voxels: np.ndarray) -> np.ndarray:
        scaled = (voxels.astype(np.float32) - np.float32(self.low)) * np.float32(1 / (self.high - self.low))
        return np.clip(scaled, 0, 1, out=scaled)


@dataclass(frozen=True)
class CLAHE(Step):
    """Contrast limited adaptive histogram equalisation of each slice, on 8 bits; [0,1] to [0,1].

    Parameters
    ----------
    clip_limit:
        Contrast limit.
    grid:
        Tiles a side.
    """

    clip_limit: Annotated[float, Gt(0)] = 2.0
    grid: Annotated[int, Gt(0)] = 8

    def apply(self, arrays: Arrays) -> Arrays:
        for name in IMAGES:
            if name in arrays:
                arrays[name] = self.equalise(to_bytes(arrays[name]))
        return arrays

    def equalise(self, slices: np.ndarray) -> np.ndarray:
        """(D,H,W) uint8 to float32."""
        clahe = cv2.createCLAHE(self.clip_limit, (self.grid, self.grid))
        out = np.empty(slices.shape, np.float32)
        for i, image in enumerate(slices):
            np.multiply(clahe.apply(image), np.float32(1 / 255), out=out[i])
        return out


def to_bytes(images: np.ndarray) -> np.ndarray:
    """[0,1] to uint8, rounded to nearest."""
    return np.rint(np.clip(images, 0, 1).astype(np.float32) * np.float32(255)).astype(np.uint8)


@dataclass(frozen=True)
class Resize(Step):
    """Resize in the plane, linearly (masks: nearest neighbour).

    Parameters
    ----------
    size:
        Height and width in pixels.
    """

    size: tuple[Annotated[int, Gt(0)], Annotated[int, Gt(0)]] = (256, 256)

    def apply(self, arrays: Arrays) -> Arrays:
        for name, array in arrays.items():
            if array.shape[1:] != tuple(self.size):
                if name in IMAGES and array.dtype != np.float32:
                    array = array.astype(np.float32)  # whole numbers would be rounded between pixels
                interpolation = cv2.INTER_NEAREST_EXACT if name == "mask" else cv2.INTER_LINEAR
                arrays[name] = resize(array, self.size, interpolation)
        return arrays

    def restore(self, array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        return array if array.shape[1:] == shape else resize(array, shape, cv2.INTER_LINEAR)


def resize(array: np.ndarray, size: Sequence[int], interpolation: int) -> np.ndarray:
    """Resize every slice of (D,H,W) to ``size`` (height, width)."""
    out = np.empty((len(array), *size), array.dtype)
    for i, image in enumerate(array):
        cv2.resize(image, (size[1], size[0]), dst=out[i], interpolation=interpolation)
    return out


@dataclass(frozen=True)
class MinMax(Step):
    """Stretch each slice from its smallest and largest value to [0,1]; a constant slice becomes 0."""

    def apply(self, arrays: Arrays) -> Arrays:
        for name in IMAGES:
            if name in arrays:
                image = arrays[name].astype(np.float32)
                low, high = image.min((1, 2), keepdims=True), image.max((1, 2), keepdims=True)
                span = np.where(high > low, high - low, 1)
                arrays[name] = (image - low) / span
        return arrays


@dataclass(frozen=True)
class WindowCLAHE(Step):
    """A window followed by CLAHE, for whole numbers: a table look-up straight to the bytes that CLAHE takes.

    Gives the very numbers of the two steps; other voxels go through them one after the other.
    """

    window: Window
    clahe: CLAHE

    def apply(self, arrays: Arrays) -> Arrays:
        for name in IMAGES:
            if name not in arrays:
                continue
            voxels = arrays[name]
            self.window.question(name, voxels)
            low, high = voxels.min(), voxels.max()
            if voxels.dtype != np.int16:
                whole = voxels.astype(np.int16) if low >= -32768 and high <= 32767 else None
                if whole is None or not np.array_equal(whole, voxels):
                    arrays[name] = self.clahe.equalise(to_bytes(self.window.scaled(voxels)))
                    continue
                voxels = whole
            table = to_bytes(self.window.scaled(np.arange(int(low), int(high) + 1)))
            arrays[name] = self.clahe.equalise(np.take(table, voxels.astype(np.int32) - int(low)))
        return arrays


def fuse(steps: Sequence[Any]) -> list[Any]:
    """The same chain with neighbouring steps joined where one pass does for two."""
    fused: list[Any] = []
    for step in steps:
        if fused and isinstance(fused[-1], Window) and isinstance(step, CLAHE):
            fused[-1] = WindowCLAHE(fused[-1], step)
        else:
            fused.append(step)
    return fused


def prepare(steps: Sequence[Any], arrays: Arrays) -> tuple[Arrays, list[tuple[int, int]]]:
    """Run a chain over the arrays of one case; images come out float32, masks uint8.

    The second result is the in-plane shape before each step of the joined chain, for :func:`restore`.
    """
    arrays = dict(arrays)
    shapes = []
    for step in fuse(steps):
        shapes.append(arrays["image"].shape[1:])
        arrays = step.apply(arrays)
    for name in IMAGES:
        if name in arrays:
            arrays[name] = np.ascontiguousarray(arrays[name], np.float32)
    return arrays, shapes


def restore(steps: Sequence[Any], array: np.ndarray, shapes: Sequence[tuple[int, int]]) -> np.ndarray:
    """Bring a (D,H,W) result of prepared slices back to the source grid, through the ``shapes`` of :func:`prepare`."""
    for step, shape in zip(reversed(fuse(steps)), reversed(shapes), strict=True):
        array = step.restore(array, shape)
    return array
