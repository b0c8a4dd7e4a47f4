"""What albumentations does not do as our augmentations say it: transforms of its kind, imported when one is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import albumentations as A
import numpy as np


class WholeAffine(A.Affine):
    """An affine map whose shift is not cut to whole pixels: on small images the cut would halve its variance."""

    def _get_translate_params(self, image_shape: tuple[int, int]) -> dict[str, float]:  # type: ignore[override]
        sides = {"x": image_shape[1], "y": image_shape[0]}
        return {axis: self.py_random.uniform(*limits) * sides[axis] for axis, limits in self.translate_percent.items()}


class Noise(A.ImageOnlyTransform):
    """Gaussian noise of one standard deviation, drawn anew for every slice and channel; the result is cut to [0,1]."""

    def __init__(self, low: float, high: float, p: float) -> None:
        super().__init__(p=p)
        self.low, self.high = low, high

    def get_params(self) -> dict[str, Any]:
        return {"deviation": self.py_random.uniform(self.low, self.high)}

    def apply(self, img: np.ndarray, deviation: float = 0.0, **params: Any) -> np.ndarray:
        noise = self.random_generator.standard_normal(img.shape, np.float32)
        noise *= np.float32(deviation)
        noise += img
        return np.clip(noise, 0, 1, out=noise)

    def apply_to_images(self, images: np.ndarray, *args: Any, **params: Any) -> np.ndarray:
        return self.apply(images, *args, **params)

    def get_transform_init_args_names(self) -> Mapping[str, Any]:  # type: ignore[override]
        return {"low": self.low, "high": self.high}
