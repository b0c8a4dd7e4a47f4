"""Preparation of radiographs: a range of values without outliers, and resizing without distortion.

The order of the thesis (part A, section 3) is ``clip_percentiles``, ``pad_resize`` and, in downstream tasks, ``clahe``.
The published code stretches after padding, so that its padding (0 in stored units) may become any grey:
``{use: clip_percentiles, stretch: false}, {use: pad_resize, official_order: true}, {use: min_max}`` gives its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import cv2
import numpy as np
from annotated_types import Ge, Gt, Le

from medkit.data.transforms import IMAGES, Arrays, Step, resize

Percentile = Annotated[float, Ge(0), Le(100)]
Pixels = Annotated[int, Gt(0)]


@dataclass(frozen=True)
class ClipPercentiles(Step):
    """Clip each image at two percentiles of its values, then stretch it to [0,1]; a constant image becomes 0.

    Side markers and dead pixels are few but extreme: clipping keeps them from deciding the range.

    Parameters
    ----------
    low:
        Percentile that becomes 0.
    high:
        Percentile that becomes 1.
    stretch:
        If false, clipped values stay in the source's units.
    """

    ends: ClassVar[tuple[str, str, str]] = ("low", "<", "high")
    low: Percentile = 0.5
    high: Percentile = 99.5
    stretch: bool = True

    def __post_init__(self) -> None:
        if not self.high > self.low:
            raise ValueError(f"the upper percentile {self.high} is not above the lower one {self.low}")

    def apply(self, arrays: Arrays) -> Arrays:
        for name in IMAGES:
            if name in arrays:
                arrays[name] = np.stack([self.clipped(image) for image in arrays[name]])
        return arrays

    def clipped(self, image: np.ndarray) -> np.ndarray:
        """One image (H,W) as float32."""
        low, high = np.percentile(image, (self.low, self.high))
        clipped = np.clip(image.astype(np.float32), np.float32(low), np.float32(high))
        if not self.stretch:
            return clipped
        span = np.float32(high) - np.float32(low)
        return (clipped - np.float32(low)) / span if span > 0 else np.zeros_like(clipped)


@dataclass(frozen=True)
class PadResize(Step):
    """Pad with 0 to the aspect ratio of ``size``, the image centred, then resize bicubically (masks: nearest
    neighbour).

    Because bicubic interpolation overshoots at edges, images are clipped to [0,1].

    Parameters
    ----------
    size:
        Height and width in pixels.
    official_order:
        For images that are not stretched to [0,1] yet, as in the published code: no clipping.
    """

    size: tuple[Pixels, Pixels] = (512, 512)
    official_order: bool = False

    def apply(self, arrays: Arrays) -> Arrays:
        for name, array in arrays.items():
            if name in IMAGES:
                scaled = resize(self.padded(array.astype(np.float32)), self.size, cv2.INTER_CUBIC)
                arrays[name] = scaled if self.official_order else np.clip(scaled, 0, 1, out=scaled)
            else:
                arrays[name] = resize(self.padded(array), self.size, cv2.INTER_NEAREST_EXACT)
        return arrays

    def restore(self, array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        above, below, left, right = self.margins(shape)
        full = (shape[0] + above + below, shape[1] + left + right)
        scaled = resize(array, full, cv2.INTER_LINEAR)
        return np.ascontiguousarray(scaled[:, above : above + shape[0], left : left + shape[1]])

    def margins(self, shape: tuple[int, int]) -> tuple[int, int, int, int]:
        """Rows to add above and below, columns left and right of (H,W); an odd one goes below or to the right."""
        height, width = shape
        rows = max(height, round(width * self.size[0] / self.size[1])) - height
        columns = max(width, round(height * self.size[1] / self.size[0])) - width
        return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2

    def padded(self, array: np.ndarray) -> np.ndarray:
        above, below, left, right = self.margins((array.shape[1], array.shape[2]))
        return np.pad(array, ((0, 0), (above, below), (left, right)))
