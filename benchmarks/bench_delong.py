"""DeLong's test of two systems at n = 20,000 against its definition over all pairs, in turn in one process.

Prints the median of the ratios, and the largest difference of the two p-values.

    OMP_NUM_THREADS=1 python benchmarks/bench_delong.py
"""

from __future__ import annotations

import math
import statistics
import time

import numpy as np
from medkit_benchmarks import script
from scipy.stats import norm

from medkit.evaluation.statistics import delong


def pairs(scores: np.ndarray, labels: np.ndarray, chunk: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Structural components over all pairs, a chunk of positives at a time."""
    x, y = scores[labels > 0], scores[labels <= 0]
    v10, v01 = np.empty(len(x)), np.zeros(len(y))
    for i in range(0, len(x), chunk):
        part = x[i : i + chunk, None]
        kernel = (part > y) + 0.5 * (part == y)
        v10[i : i + chunk] = kernel.mean(1)
        v01 += kernel.sum(0)
    return v10, v01 / len(x)


def definition(a: np.ndarray, b: np.ndarray, labels: np.ndarray) -> float:
    """Two-sided p-value from the covariances of the components (DeLong et al. 1988)."""
    (v10_a, v01_a), (v10_b, v01_b) = pairs(a, labels), pairs(b, labels)
    covariance = np.cov(np.stack([v10_a, v10_b])) / len(v10_a) + np.cov(np.stack([v01_a, v01_b])) / len(v01_a)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return float(2 * norm.sf(abs(v10_a.mean() - v10_b.mean()) / math.sqrt(variance)))


def main() -> None:
    script.parser(__doc__).parse_args()
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 20_000)
    signal = labels + rng.normal(0, 1, 20_000)
    a, b = (np.round(signal + rng.normal(0, 0.5, 20_000), 2) for _ in range(2))
    delong(a, b, labels)
    slow, fast = [], []
    for _ in range(5):
        start = time.perf_counter()
        wanted = definition(a, b, labels)
        middle = time.perf_counter()
        for _ in range(5):
            found = delong(a, b, labels)
        slow.append(middle - start)
        fast.append((time.perf_counter() - middle) / 5)
    ratio = statistics.median(s / f for s, f in zip(slow, fast, strict=True))
    print(
        f"DeLong's test, n = 20,000 with ties: {ratio:.0f}x ({statistics.median(slow) * 1e3:.0f} to "
        f"{statistics.median(fast) * 1e3:.1f} ms), p differs by {abs(wanted - found.p):.1e}"
    )


if __name__ == "__main__":
    main()
