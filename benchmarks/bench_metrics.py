"""DeLong at n = 20,000 and SSIM of pairs of slices, each against its definition."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from medkit_benchmarks.bench_delong import definition, pairs
from torch.nn.functional import conv2d

from medkit.bench import Case, Target, Variant, Work
from medkit.evaluation.statistics import delong, placements
from medkit.parts.metrics_image import ssim

Arrays = tuple[np.ndarray, np.ndarray]


def scores(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and the scores of two systems with ties."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    signal = labels + rng.normal(0, 1, n)
    one, other = (np.round(signal + rng.normal(0, 0.5, n), 2) for _ in range(2))
    return labels, one, other


def components(way: Callable[[np.ndarray, np.ndarray], Any], n: int, device: torch.device) -> Callable[[], Any]:
    labels, one, _ = scores(n)
    return lambda: way(one, labels)[-2:]


def two_systems(way: Callable[..., Any], n: int, device: torch.device) -> Callable[[], float]:
    labels, one, other = scores(n)
    return lambda: getattr(found := way(one, other, labels), "p", found)


def ssim_plain(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM by two-dimensional 11x11 convolutions, in the precision of the pair."""
    taps = torch.exp(-((torch.arange(11, dtype=torch.from_numpy(a).dtype) - 5) ** 2) / (2 * 1.5**2))
    kernel = (taps / taps.sum())[None, None, :, None] * (taps / taps.sum())[None, None, None, :]

    def blur(x: torch.Tensor) -> torch.Tensor:
        return conv2d(x, kernel, padding=5)

    x, y = torch.from_numpy(a)[None, None], torch.from_numpy(b)[None, None]
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return float(((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


def similarity(way: Callable[[np.ndarray, np.ndarray], float], size: int, device: torch.device) -> Callable[[], float]:
    cv2.setNumThreads(torch.get_num_threads())
    rng = np.random.default_rng(0)
    one = rng.random((size, size), dtype=np.float32)
    other = np.clip(one + rng.normal(0, 0.05, one.shape), 0, 1).astype(np.float32)
    return lambda: way(one, other)


def ssim_exact(a: np.ndarray, b: np.ndarray) -> float:
    return ssim_plain(a.astype(np.float64), b.astype(np.float64))


def ssim_case(size: int, targets: tuple[Target, ...] = ()) -> Case:
    return Case(
        f"SSIM of a pair {size}x{size}",
        (
            Variant("2-D convolutions", partial(similarity, ssim_plain, size)),
            Variant("medkit", partial(similarity, ssim, size)),
        ),
        tolerance=1e-6,  # the mean of all pixels may be exact by chance
        truth=partial(similarity, ssim_exact, size),
        work=Work(bytes=8 * size * size),
        group="SSIM, over side",
        size=size,
        targets=targets,
        host=True,
        quick=size == 64,
    )


def delong_case(n: int, targets: tuple[Target, ...] = ()) -> Case:
    return Case(
        f"DeLong's components, n = {n:,} with ties",
        (
            Variant("all pairs", partial(components, pairs, n)),
            Variant("medkit", partial(components, placements, n)),
        ),
        tolerance=1e-12,
        memory=bool(targets),
        group="DeLong's components, over n",
        size=n,
        targets=targets,
        host=True,
        quick=n == 500,
    )


def cases() -> list[Case]:
    delong_promise = (Target("medkit", "speed", 40), Target("medkit", "error", 1e-12))
    return [
        *(delong_case(n, delong_promise if n == 20_000 else ()) for n in (500, 5000, 20_000)),
        Case(
            "DeLong's test of two systems, n = 20,000 with ties",
            (
                Variant("all pairs", partial(two_systems, definition, 20_000)),
                Variant("medkit", partial(two_systems, delong, 20_000)),
            ),
            tolerance=1e-9,
            rounds=5,
            host=True,
        ),
        *(
            ssim_case(size, (Target("medkit", "speed", 5), Target("medkit", "error", 1e-5)) if size == 512 else ())
            for size in (64, 128, 256, 512)
        ),
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_metrics(case, versus) -> None:
    versus(case)
