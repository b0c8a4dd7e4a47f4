"""Transforms that albumentations lacks or does differently from our augmentations, imported when one is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import albumentations as A
import cv2
import numpy as np

from medkit.data.augment_crop import Cut, cut_of


class WholeAffine(A.Affine):
    """An affine map whose shift is not truncated to whole pixels, which would halve its variance on small images."""

    def _get_translate_params(self, image_shape: tuple[int, int]) -> dict[str, float]:  # type: ignore[override]
        sides = {"x": image_shape[1], "y": image_shape[0]}
        return {axis: self.py_random.uniform(*limits) * sides[axis] for axis, limits in self.translate_percent.items()}


class Noise(A.ImageOnlyTransform):
    """Gaussian noise of one standard deviation, drawn anew for every slice and channel, clipped to [0,1]."""

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


class Crop(A.DualTransform):
    """A crop of ``scale`` (smallest and largest fraction) of the image's area, resized to its size or to a square."""

    def __init__(self, scale: tuple[float, float], size: int | None = None, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.scale, self.size = scale, size

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        result = (height, width) if self.size is None else (self.size, self.size)
        place = self.py_random.random(), self.py_random.random()
        area = self.py_random.uniform(*self.scale)
        return {"cut": cut_of((height, width), result, area, place), "result": result}

    def apply(self, img: np.ndarray, cut: Cut, result: tuple[int, int], **params: Any) -> np.ndarray:
        top, left, height, width = cut
        how = cv2.INTER_AREA if height > result[0] else cv2.INTER_LINEAR
        found = cv2.resize(img[top : top + height, left : left + width], result[::-1], interpolation=how)
        return found.reshape(*result, *img.shape[2:])

    def apply_to_mask(self, mask: np.ndarray, cut: Cut, result: tuple[int, int], **params: Any) -> np.ndarray:
        # OpenCV is not consistent about which of two equally near pixels it takes.
        rows, columns = (
            start + (2 * np.arange(size) + 1) * length // (2 * size)
            for start, length, size in ((cut.top, cut.height, result[0]), (cut.left, cut.width, result[1]))
        )
        return mask[rows[:, None], columns]

    def apply_to_images(self, images: np.ndarray, *args: Any, **params: Any) -> np.ndarray:
        return np.stack([self.apply(image, **params) for image in images])

    def get_transform_init_args_names(self) -> Mapping[str, Any]:  # type: ignore[override]
        return {"scale": self.scale, "size": self.size}
