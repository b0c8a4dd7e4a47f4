"""Smooth random fields: low-resolution periodic 3-D noise, sampled where it is needed."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

Array = np.ndarray


class SmoothNoise:
    """Periodic 3-D noise of mean 0 and standard deviation 1 with features about ``scale`` mm wide."""

    def __init__(self, rng: np.random.Generator, size: int = 36, smooth: float = 1.2) -> None:
        field = ndimage.gaussian_filter(rng.standard_normal((size, size, size), dtype=np.float32), smooth, mode="wrap")
        field -= field.mean()
        self.field = np.pad(field / field.std(), ((0, 1),) * 3, mode="wrap")
        self.size = size

    def __call__(self, x: Array, y: Array, z: Array, scale: float, shift: float = 0.0) -> Array:
        """Trilinear samples at points in mm; another ``shift`` (in cells) gives an independent-looking field."""
        n = self.size
        at = np.stack([np.broadcast_to(axis, x.shape) for axis in (z, y, x)]).astype(np.float32).reshape(3, -1)
        at /= scale
        at += np.array([[0.37 + shift], [0.71 + 1.7 * shift], [0.13 + 2.3 * shift]], np.float32)
        at -= n * np.floor(at / n)
        np.clip(at, 0, n, out=at)
        values = ndimage.map_coordinates(self.field, at, order=1, mode="nearest", prefilter=False, output=np.float32)
        return values.reshape(x.shape)
