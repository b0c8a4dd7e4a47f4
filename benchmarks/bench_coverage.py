"""How often 95 % intervals of a mean contain it: medkit's bootstrap, plain bootstrap percentiles and Student's t.

Every patient has a level of its own, drawn from a normal or a skewed distribution whose mean is known.

    OMP_NUM_THREADS=1 python benchmarks/bench_coverage.py
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from medkit_benchmarks import script
from medkit_benchmarks.kept_table import keep
from scipy.stats import t

from medkit.evaluation.bootstrap import bootstrap
from medkit.parts.metrics_segmentation import DiceScore

SETS = 2000
KINDS = {"normal": 0.0, "lognormal, σ 0.5": 0.5, "lognormal, σ 1.2": 1.2}
Interval = Callable[[np.ndarray], tuple[float, float]]


def levels(rng: np.random.Generator, sigma: float, patients: int) -> np.ndarray:
    """Scores of patients; ``sigma`` 0 for normal ones, otherwise that of lognormal ones."""
    return rng.normal(0, 1, patients) if not sigma else np.exp(rng.normal(0, sigma, patients))


def mean(sigma: float) -> float:
    return math.exp(sigma**2 / 2) if sigma else 0.0


def ours(scores: np.ndarray) -> tuple[float, float]:
    found = bootstrap(DiceScore(), {"value": scores}, [f"p{i}" for i in range(len(scores))])
    return found.low, found.high


def percentiles(scores: np.ndarray) -> tuple[float, float]:
    drawn = scores[np.random.default_rng(0).integers(len(scores), size=(1000, len(scores)))].mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def student(scores: np.ndarray) -> tuple[float, float]:
    half = t.ppf(0.975, len(scores) - 1) * scores.std(ddof=1) / math.sqrt(len(scores))
    return float(scores.mean() - half), float(scores.mean() + half)


WAYS: dict[str, Interval] = {
    "these intervals": ours,
    "plain bootstrap percentiles": percentiles,
    "Student's t": student,
}


def held(sigma: float, patients: int, sets: int = SETS) -> list[float]:
    """For each way, the share of intervals in percent that contain the mean."""
    rng, true = np.random.default_rng(0), mean(sigma)
    found = np.zeros(len(WAYS))
    for _ in range(sets):
        scores = levels(rng, sigma, patients)
        found += [low <= true <= high for low, high in (way(scores) for way in WAYS.values())]
    return [100 * float(share) for share in found / sets]


def main() -> None:
    script.parser(__doc__).parse_args()
    rows = [(patients, kind, *held(sigma, patients)) for kind, sigma in KINDS.items() for patients in (6, 10, 30)]
    note = f"Percent of {SETS:,} simulated test sets whose 95 % interval contains the true mean."
    keep("coverage", {"patients": "d", "scores": "", **dict.fromkeys(WAYS, ".1f")}, rows, note)


if __name__ == "__main__":
    main()
