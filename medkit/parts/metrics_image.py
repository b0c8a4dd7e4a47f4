"""Metrics of image restoration in windowed [0,1] space, mean over slices.

The input's own value goes with every output's. Slices whose input and target are equal to 60 dB or better are *blank*
(nothing in the window): they are left out of the mean and counted, and ``plain`` is the mean over all slices.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import Field

from medkit.parts.metrics_sums import SumMetric, divided

Rows = Mapping[str, np.ndarray]
Pairs = Sequence[tuple[np.ndarray, np.ndarray]]
BLANK = 60.0  # dB


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """10 log10(1 / (MSE + 1e-10)), so equal images give 100 dB."""
    return float(10 * np.log10(1 / (np.mean((a.astype(np.float64) - b) ** 2) + 1e-10)))


def rmse(a: np.ndarray, b: np.ndarray) -> float:
    """Root mean square error of two images."""
    return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2)))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004) of (H,W) images in [0,1]: 11x11 Gaussian of sigma 1.5, zero padding,
    mean over the whole map, as in the published evaluation.

    In float64: in bright smooth images variances are small differences of large squares, and in float32 what is left of
    them is off by 5e-5, also above 1.
    """
    taps = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()

    def blur(x: np.ndarray) -> np.ndarray:
        return cv2.sepFilter2D(x, cv2.CV_64F, taps, taps, borderType=cv2.BORDER_CONSTANT)

    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b = blur(a), blur(b)
    aa, bb, ab = mean_a * mean_a, mean_b * mean_b, mean_a * mean_b
    var_a, var_b, cov = blur(a * a) - aa, blur(b * b) - bb, blur(a * b) - ab
    c1, c2 = 0.01**2, 0.03**2
    found = np.mean((2 * ab + c1) * (2 * cov + c2) / ((aa + bb + c1) * (var_a + var_b + c2)))
    return min(1.0, float(found))


def blank_slices(image: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(D,) bool: the slices of (D,H,W) in which input and target are equal to 60 dB or better."""
    return np.array([psnr(a, b) >= BLANK for a, b in zip(image, target, strict=True)])


class SliceMetric(SumMetric):
    """A metric of pairs of slices; a case is one volume (or one slice), its row the means over its slices."""

    name = ""
    unit = ""
    higher_is_better = True
    perfect = 0.0
    empty = "blank slices (input and target equal to 60 dB) are left out and counted; 'plain' is the mean with them"

    @abstractmethod
    def measure(self, pairs: Pairs) -> Sequence[float]:
        """The metric of each pair of (H,W) slices, the second of which is the target."""

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        output, target, image = case["output"], case["target"], case["image"]
        blank = blank_slices(image, target)
        pairs: list[tuple[np.ndarray, np.ndarray]] = []
        for z in range(len(target)):
            pairs.append((output[z], target[z]))
            if not blank[z]:
                pairs.append((image[z], target[z]))
        found = iter(self.measure(pairs))
        after, before = np.empty(len(target)), []
        for z in range(len(target)):
            after[z] = next(found)
            if not blank[z]:
                before.append(next(found))
        return {
            "patient": case["patient"],
            "value": _average(after[~blank]),
            "input": _average(np.array(before)),
            "plain": _average(after),
            "slices": float(len(before)),
            "blank": float(blank.sum()),
        }

    def terms(self, rows: Rows) -> np.ndarray:
        slices = np.asarray(rows["slices"], float)
        return np.stack([np.where(slices > 0, rows["value"], 0) * slices, slices], 1)

    def of_sums(self, sums: np.ndarray) -> np.ndarray:
        return divided(sums[..., 0], sums[..., 1])

    def compute(self, rows: Rows) -> float:
        return _mean(rows, "value")

    def extras(self, rows: Rows) -> dict[str, float]:
        """What goes with the value: the input's own and the target's, the mean with blank slices, how many of either
        there are, and the mean in which every patient counts the same."""
        owned = [rows["patient"] == name for name in np.unique(rows["patient"])]
        means = [_mean({key: column[mine] for key, column in rows.items()}, "value") for mine in owned]
        known = np.array([mean for mean in means if not np.isnan(mean)])
        return {
            "input": _mean(rows, "input"),
            "target": self.perfect,
            "plain": float(np.average(rows["plain"], weights=rows["slices"] + rows["blank"])),
            "counted_slices": float(np.sum(rows["slices"])),
            "blank_slices": float(np.sum(rows["blank"])),
            "patient_mean": _average(known),
            "counted_patients": float(len(known)),
        }

    def score(self, row: Mapping[str, Any]) -> float:
        return float(row["value"])

    def weight(self, row: Mapping[str, Any]) -> float:
        """Of a case's score in the mean: the slices that it is of."""
        return float(row["slices"])


def _average(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _mean(rows: Rows, key: str) -> float:
    """The mean over slices that are not blank; a case of blank slices has no value and no weight."""
    counted = rows["slices"] > 0
    if not counted.any():
        return float("nan")
    return float(np.average(rows[key][counted], weights=rows["slices"][counted]))


class PSNR(SliceMetric):
    """Peak signal-to-noise ratio in dB, data range 1."""

    name, unit, perfect = "psnr", "dB", 100.0

    def measure(self, pairs: Pairs) -> Sequence[float]:
        return [psnr(a, b) for a, b in pairs]


class SSIM(SliceMetric):
    """Structural similarity, data range 1."""

    name, perfect = "ssim", 1.0

    def measure(self, pairs: Pairs) -> Sequence[float]:
        return [ssim(a, b) for a, b in pairs]


class RMSE(SliceMetric):
    """Root mean square error.

    Parameters
    ----------
    window_width:
        Width of the window in HU, to have the error in HU; null leaves it as a share of the window. A run refuses
        another width than that of the data block's window.
    """

    name = "rmse"
    higher_is_better = False

    def __init__(self, window_width: Annotated[float, Field(gt=0)] | None = None) -> None:
        self.window_width, self.factor = window_width, window_width or 1.0
        self.unit = "HU" if window_width else "of the window"
        self.name = "rmse_hu" if window_width else "rmse"

    def measure(self, pairs: Pairs) -> Sequence[float]:
        return [rmse(a, b) * self.factor for a, b in pairs]
