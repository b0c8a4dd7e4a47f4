"""The detector and its pixels: where bodies are projected to, and the layers in which they are added up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass
class Frame:
    """Where the detector is: ``rotation`` has rows u, v, w in body axes; pixel (0, 0) is at ``corner`` (u, v) mm."""

    rotation: Array
    corner: Array
    pixel: float
    shape: tuple[int, int]

    def window(self, u: tuple[float, float], v: tuple[float, float]) -> tuple[tuple[slice, slice], Array, Array] | None:
        """The pixels of a rectangle in mm: their slices, u (1,w) and v (h,1) in mm; None when all are outside."""
        height, width = self.shape
        left, right = (
            min(max(int((x - self.corner[0]) / self.pixel) + k, 0), width) for x, k in zip(u, (-1, 2), strict=True)
        )
        top, bottom = (
            min(max(int((y - self.corner[1]) / self.pixel) + k, 0), height) for y, k in zip(v, (-1, 2), strict=True)
        )
        if left >= right or top >= bottom:
            return None
        columns = self.corner[0] + self.pixel * np.arange(left, right, dtype=np.float32)
        rows = self.corner[1] + self.pixel * np.arange(top, bottom, dtype=np.float32)
        return (slice(top, bottom), slice(left, right)), columns[None], rows[:, None]


def cross(a: Array, b: Array) -> Array:
    """Cross product of two vectors (3,); much quicker than numpy's for single vectors."""
    return np.array((a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]))


class Canvas:
    """Layers (H,W) float32: ``soft`` in mm; ``bone`` and ``other`` as integrals of attenuation without a unit."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.soft = np.zeros(shape, np.float32)
        self.bone = np.zeros(shape, np.float32)
        self.other = np.zeros(shape, np.float32)

    def add(self, layer: str, where: tuple[slice, slice], values: Array) -> None:
        """Add attenuation, or raise the thickness of soft tissue to ``values``."""
        target = getattr(self, layer)[where]
        if layer == "soft":
            np.maximum(target, values, out=target)
        else:
            target += values
