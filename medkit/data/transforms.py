"""Preparation of images: deterministic steps from source voxels to a network's input.

Arrays are (D,H,W). ``image`` and ``target`` get every step; ``mask`` gets only geometric ones, by nearest neighbour.
Images of several channels are (D,C,H,W): a step that makes channels (:mod:`medkit.data.channels`) gets all of them,
any other step one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import cv2
import numpy as np
from annotated_types import Gt

from medkit.data.volume import Units

if TYPE_CHECKING:
    from torch import Tensor

Arrays = dict[str, np.ndarray]
IMAGES = ("image", "target")
VERSION = 6  # part of the cache key: increase it when a step's numbers change


class Step:
    """A step that keeps the shape: nothing to restore."""

    def restore(self, array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        return array

    def graph_restore(self, maps: Tensor, shape: Sequence[int]) -> Tensor:
        return maps


@dataclass(frozen=True)
class Window(Step):
    """Map HU from ``low`` to ``high`` linearly to [0,1], and clip.

    Parameters
    ----------
    low:
        HU that becomes 0.
    high:
        HU that becomes 1.
    units:
        ``stored`` if ``low`` and ``high`` are in the images' own units; with ``HU``, images that are not CT in HU are
        refused.
    """

    ends: ClassVar[tuple[str, str, str]] = ("low", "<", "high")
    low: float = 0.0
    high: float = 80.0
    units: Units = "HU"

    def __post_init__(self) -> None:
        if not self.high > self.low:
            raise ValueError(f"the window's high end {self.high} is not above its low end {self.low}")

    def apply(self, arrays: Arrays) -> Arrays:
        for name in IMAGES:
            if name in arrays:
                arrays[name] = self.scaled(arrays[name])
        return arrays

    @property
    def needs_hu(self) -> str | None:
        """What in this step needs CT in HU, in words, or None."""
        return f"the window from {self.low:g} to {self.high:g} HU" if self.units == "HU" else None

    def scaled(self, voxels: np.ndarray) -> np.ndarray:
        scaled = (voxels.astype(np.float32) - np.float32(self.low)) * np.float32(1 / (self.high - self.low))
        return np.clip(scaled, 0, 1, out=scaled)

    def graph(self, images: Tensor) -> Tensor:
        return ((images - self.low) * (1 / (self.high - self.low))).clamp(0, 1)


@dataclass(frozen=True)
class CLAHE(Step):
    """Contrast limited adaptive histogram equalisation of each slice, on 8 bits; [0,1] to [0,1].

    Parameters
    ----------
    clip_limit:
        Contrast limit.
    grid:
        Tiles per side.
    """

    clip_limit: Annotated[float, Gt(0)] = 2.0
    grid: Annotated[int, Gt(0)] = 8

    def apply(self, arrays: Arrays) -> Arrays:
        for name in IMAGES:
            if name in arrays:
                arrays[name] = self.equalise(to_bytes(arrays[name]))
        return arrays

    def made(self) -> Any:
        return cv2.createCLAHE(self.clip_limit, (self.grid, self.grid))

    def equalise(self, slices: np.ndarray) -> np.ndarray:
        """(D,H,W) uint8 to float32."""
        clahe = self.made()
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
                    array = array.astype(np.float32)  # interpolated integers would be rounded
                interpolation = cv2.INTER_NEAREST_EXACT if name == "mask" else cv2.INTER_LINEAR
                arrays[name] = resize(array, self.size, interpolation)
        return arrays

    def restore(self, array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        return array if array.shape[1:] == shape else resize(array, shape, cv2.INTER_LINEAR)

    def graph(self, images: Tensor) -> Tensor:
        return _interpolated(images, self.size)

    def graph_restore(self, maps: Tensor, shape: Sequence[int]) -> Tensor:
        return _interpolated(maps, shape)


def _interpolated(images: Tensor, size: Sequence[int]) -> Tensor:
    """(N,C,H,W) resized as by ``cv2.INTER_LINEAR``: pixel centres at halves, no antialiasing."""
    from torch.nn.functional import interpolate

    return interpolate(images, tuple(size), mode="bilinear", align_corners=False)


def resize(array: np.ndarray, size: Sequence[int], interpolation: int) -> np.ndarray:
    """Resize every slice of (D,H,W) to ``size`` (height, width)."""
    out = np.empty((len(array), *size), array.dtype)
    for image, result in zip(array, out, strict=True):
        resize_slice(image, result, interpolation)
    return out


def resize_slice(image: np.ndarray, out: np.ndarray, interpolation: int) -> None:
    """Resize (H,W) into ``out``."""
    height, width = out.shape
    if interpolation == cv2.INTER_LINEAR and image.shape == (2 * height, 2 * width):
        interpolation = cv2.INTER_AREA  # the same mean of four pixels at half the time
    cv2.resize(image, (width, height), dst=out, interpolation=interpolation)


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

    def graph(self, images: Tensor) -> Tensor:
        low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
        return (images - low) / (high - low + (high == low).to(images.dtype))


@dataclass(frozen=True)
class Joined(Step):
    """A window followed by CLAHE and, if they come next, min-max and a resize, in one pass per slice.

    Gives the same numbers as the single steps, up to float rounding. Integer HU become bytes without a float image in
    between, and a slice stays in the processor's cache from its first step to its last.
    """

    window: Window
    clahe: CLAHE
    stretch: MinMax | None = None
    size: Resize | None = None

    def apply(self, arrays: Arrays) -> Arrays:
        for name in IMAGES:
            if name in arrays:
                arrays[name] = self.images(arrays[name])
        return arrays if self.size is None else self.size.apply(arrays)

    def restore(self, array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        return array if self.size is None else self.size.restore(array, shape)

    def images(self, voxels: np.ndarray) -> np.ndarray:
        if not voxels.size:
            return voxels.astype(np.float32)
        low, high = float(voxels.min()), float(voxels.max())
        as_bytes = self.bytes_of(voxels, low, high)
        clahe = self.clahe.made()
        shape = voxels.shape[1:]
        size = shape if self.size is None else tuple(self.size.size)
        out = np.empty((len(voxels), *size), np.float32)
        equal, floats = np.empty(shape, np.uint8), np.empty(shape, np.float32)
        for image, result in zip(voxels, out, strict=True):
            equal = clahe.apply(as_bytes(image), equal)
            span = 255
            if self.stretch is not None:
                darkest = equal.min()
                equal -= darkest
                span = int(equal.max()) or 1
            # Resizing is linear, so the scale can follow it, on fewer pixels.
            if size == shape:
                np.copyto(result, equal)
            else:
                np.copyto(floats, equal)
                resize_slice(floats, result, cv2.INTER_LINEAR)
            result *= np.float32(1 / span)
        return out

    def bytes_of(self, voxels: np.ndarray, low: float, high: float) -> Callable[[np.ndarray], np.ndarray]:
        """The fastest function from a slice of ``voxels`` to bytes that agrees with window and rounding."""

        def exact(image: np.ndarray) -> np.ndarray:
            return to_bytes(self.window.scaled(image))

        if low < -32768 or high > 32767:
            return exact
        if voxels.dtype != np.int16 and not all(np.array_equal(image.astype(np.int16), image) for image in voxels):
            return exact
        start, stop = (
            int(np.clip(end, -32768, 32767)) for end in (np.floor(self.window.low), np.ceil(self.window.high))
        )
        alpha = 255 / (self.window.high - self.window.low)

        def scaled(image: np.ndarray) -> np.ndarray:
            clipped = np.clip(image.astype(np.int16, copy=False), start, stop)
            return cv2.convertScaleAbs(clipped, alpha=alpha, beta=-self.window.low * alpha)

        every = np.arange(int(low), int(high) + 1, dtype=np.int16)[None]
        table = exact(every)[0]
        # OpenCV rounds the values of a few windows differently; those windows use the table.
        if np.array_equal(scaled(every)[0], table):
            return scaled
        return lambda image: np.take(table, image.astype(np.int32) - int(low))


def fuse(steps: Sequence[Any]) -> list[Any]:
    """The same chain, with neighbouring steps joined if one pass can do them."""
    fused: list[Any] = []
    for step in steps:
        last = fused[-1] if fused else None
        if isinstance(last, Window) and isinstance(step, CLAHE):
            fused[-1] = Joined(last, step)
        elif isinstance(last, Joined) and last.size is None and isinstance(step, Resize):
            fused[-1] = replace(last, size=step)
        elif isinstance(last, Joined) and last.size is last.stretch is None and isinstance(step, MinMax):
            fused[-1] = replace(last, stretch=step)
        else:
            fused.append(step)
    return fused


def prepare(steps: Sequence[Any], arrays: Arrays) -> tuple[Arrays, list[tuple[int, int]]]:
    """Run a chain over the arrays of one case; images become float32, (D,H,W) or (D,C,H,W), masks stay uint8.

    The second result has the in-plane shape before each step of the joined chain, for :func:`restore`.
    """
    arrays = dict(arrays)
    shapes = []
    for step in fuse(steps):
        shapes.append(arrays["image"].shape[-2:])
        arrays = _applied(step, arrays)
    for name in IMAGES:
        if name in arrays:
            arrays[name] = np.ascontiguousarray(arrays[name], np.float32)
    return arrays, shapes


def _applied(step: Any, arrays: Arrays) -> Arrays:
    """Apply a step to the arrays, to each channel separately unless it makes channels itself."""
    several = [name for name in IMAGES if name in arrays and arrays[name].ndim == 4]
    if not several or hasattr(step, "channels"):
        return dict(step.apply(arrays))
    count = arrays[several[0]].shape[1]
    each = [
        step.apply({name: array[:, c] if name in several else array for name, array in arrays.items()})
        for c in range(count)
    ]
    return {name: np.stack([one[name] for one in each], 1) if name in several else each[0][name] for name in arrays}


def restore(steps: Sequence[Any], array: np.ndarray, shapes: Sequence[tuple[int, int]]) -> np.ndarray:
    """Bring a (D,H,W) result for prepared slices back to the source grid, with the ``shapes`` of :func:`prepare`."""
    for step, shape in zip(reversed(fuse(steps)), reversed(shapes), strict=True):
        array = step.restore(array, shape)
    return array
