"""DeLong at n = 20,000 and SSIM of 512x512 pairs, each against its definition, in turn in one process.

Prints the median of the ratios and the largest difference.

    OMP_NUM_THREADS=1 python benchmarks/bench_metrics.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn.functional import conv2d

from medkit.parts.metrics_image import ssim
from medkit.runs.stats import placements


def delong_pairs(scores: np.ndarray, labels: np.ndarray, chunk: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """V10 and V01 over all pairs, a chunk of positives at a time."""
    x, y = scores[labels > 0], scores[labels <= 0]
    v10, v01 = np.empty(len(x)), np.zeros(len(y))
    for i in range(0, len(x), chunk):
        part = x[i : i + chunk, None]
        pairs = (part > y) + 0.5 * (part == y)
        v10[i : i + chunk] = pairs.mean(1)
        v01 += pairs.sum(0)
    return v10, v01 / len(x)


def ssim_plain(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM by two-dimensional 11x11 convolutions."""
    taps = torch.exp(-((torch.arange(11.0) - 5) ** 2) / (2 * 1.5**2))
    kernel = (taps / taps.sum())[None, None, :, None] * (taps / taps.sum())[None, None, None, :]

    def blur(x: torch.Tensor) -> torch.Tensor:
        return conv2d(x, kernel, padding=5)

    x, y = torch.from_numpy(a)[None, None], torch.from_numpy(b)[None, None]
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return float(((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


def ratio(slow: Callable[[], Any], fast: Callable[[], Any], rounds: int) -> tuple[float, float, float]:
    """Median of slow over fast, and the median seconds of both."""
    slow(), fast()
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        t0 = time.perf_counter()
        slow()
        t1 = time.perf_counter()
        fast()
        times.append((t1 - t0, time.perf_counter() - t1))
    return (
        statistics.median(a / b for a, b in times),
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
    )


def main() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 20_000)
    scores = np.round(labels + rng.normal(0, 1, 20_000), 2)
    times, a, b = ratio(lambda: delong_pairs(scores, labels), lambda: placements(scores, labels), 7)
    error = max(
        np.abs(p - q).max() for p, q in zip(delong_pairs(scores, labels), placements(scores, labels)[1:], strict=True)
    )
    print(f"DeLong, n = 20,000 with ties: {times:.1f}x ({a * 1e3:.0f} to {b * 1e3:.1f} ms), difference {error:.1e}")

    one = rng.random((512, 512), dtype=np.float32)
    other = np.clip(one + rng.normal(0, 0.05, one.shape), 0, 1).astype(np.float32)
    times, a, b = ratio(lambda: ssim_plain(one, other), lambda: ssim(one, other), 25)
    error = abs(ssim_plain(one, other) - ssim(one, other))
    print(f"SSIM, 512x512: {times:.1f}x ({a * 1e3:.0f} to {b * 1e3:.1f} ms), difference {error:.1e}")


if __name__ == "__main__":
    main()
