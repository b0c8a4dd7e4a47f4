"""Metrics of image restoration in windowed [0,1] space, mean over slices.

The input's own value goes with every output's. Slices whose input and target are equal to 60 dB and more are *blank*
(nothing in the window): they are left out of the mean and counted, and ``_plain`` names the mean over all slices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import Field

Rows = Mapping[str, np.ndarray]
BLANK = 60.0  # dB


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """10 log10(1 / (MSE + 1e-10)), so equal images give 100 dB."""
    return float(10 * np.log10(1 / (np.mean((a.astype(np.float64) - b) ** 2) + 1e-10)))


def rmse(a: np.ndarray, b: np.ndarray) -> float:
    """Root mean square error of two images."""
    return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2)))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004) of (H,W) images in [0,1]: 11x11 Gaussian of sigma 1.5, zero padding,
    mean over the whole map, as in the published evaluation."""
    taps = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()

    def blur(x: np.ndarray) -> np.ndarray:
        return cv2.sepFilter2D(x, cv2.CV_32F, taps, taps, borderType=cv2.BORDER_CONSTANT)

    a, b = a.astype(np.float32), b.astype(np.float32)
    mean_a, mean_b = blur(a), blur(b)
    aa, bb, ab = mean_a * mean_a, mean_b * mean_b, mean_a * mean_b
    var_a, var_b, cov = blur(a * a) - aa, blur(b * b) - bb, blur(a * b) - ab
    c1, c2 = 0.01**2, 0.03**2
    return float(np.mean((2 * ab + c1) * (2 * cov + c2) / ((aa + bb + c1) * (var_a + var_b + c2)), dtype=np.float64))


class _Slices(ABC):
    """A metric of slices; a case is one volume, its row the means of its slices."""

    name = ""
    unit = ""
    higher_is_better = True
    empty = "blank slices (input and target equal to 60 dB) are left out and counted; a case of blank slices is empty"

    @abstractmethod
    def measure(self, a: np.ndarray, b: np.ndarray) -> float:
        """The metric of one slice, (H,W) against (H,W)."""

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        output, target, image = case["output"], case["target"], case["image"]
        kept = [i for i in range(len(target)) if psnr(image[i], target[i]) < BLANK]
        value = [self.measure(output[i], target[i]) for i in range(len(target))]
        if not kept:
            return None
        before = [self.measure(image[i], target[i]) for i in kept]
        return {
            "value": float(np.mean([value[i] for i in kept])),
            "input": float(np.mean(before)),
            "plain": float(np.mean(value)),
            "slices": float(len(kept)),
            "blank": float(len(target) - len(kept)),
        }

    def compute(self, rows: Rows) -> float:
        return _mean(rows, "value")

    def extras(self, rows: Rows) -> dict[str, float]:
        """Beside the value: the input's own, the mean with blank slices, and how many those are."""
        if not len(rows["value"]):
            return {}
        return {
            "input": _mean(rows, "input"),
            "plain": float(np.average(rows["plain"], weights=rows["slices"] + rows["blank"])),
            "blank_slices": float(np.sum(rows["blank"])),
        }

    def score(self, row: Mapping[str, Any]) -> float:
        return float(row["value"])


def _mean(rows: Rows, key: str) -> float:
    return float(np.average(rows[key], weights=rows["slices"])) if len(rows[key]) else float("nan")


class PSNR(_Slices):
    """Peak signal-to-noise ratio in dB, data range 1."""

    name, unit = "psnr", "dB"

    def measure(self, a: np.ndarray, b: np.ndarray) -> float:
        return psnr(a, b)


class SSIM(_Slices):
    """Structural similarity, data range 1."""

    name = "ssim"

    def measure(self, a: np.ndarray, b: np.ndarray) -> float:
        return ssim(a, b)


class RMSE(_Slices):
    """Root mean square error.

    Parameters
    ----------
    window_width:
        HU of the window, to have the error in HU; null leaves it a share of the window.
    """

    name = "rmse"
    higher_is_better = False

    def __init__(self, window_width: Annotated[float, Field(gt=0)] | None = None) -> None:
        self.factor = window_width or 1.0
        self.unit = "HU" if window_width else ""
        self.name = "rmse_hu" if window_width else "rmse"

    def measure(self, a: np.ndarray, b: np.ndarray) -> float:
        return rmse(a, b) * self.factor
