"""How often intervals and tests by patients are wrong where one patient has many of the rows: plain ones, and medkit's.

Every patient has a level of its own, and its rows vary around it. The true mean, and the true difference of two
systems, is 0.

    OMP_NUM_THREADS=1 python benchmarks/bench_uneven.py
"""

from __future__ import annotations

import math

import numpy as np
from medkit_benchmarks import script
from medkit_benchmarks.kept_table import keep
from scipy.stats import t

from medkit.evaluation.bootstrap import bootstrap
from medkit.evaluation.statistics import paired_t
from medkit.parts.metrics_segmentation import DiceScore

SETS, PATIENTS, ROWS = 2000, 15, 5
SHARES = {"no more than each other one": 1, "a third": 7, "half": 14}
"""What one patient has of all rows: so many times as many as each other one."""


def plain_interval(sums: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """Percentiles of a bootstrap that draws patients."""
    drawn = np.random.default_rng(0).integers(PATIENTS, size=(1000, PATIENTS))
    low, high = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), [0.025, 0.975])
    return float(low), float(high)


def plain_test(sums: np.ndarray, sizes: np.ndarray) -> float:
    """The p of a t-test with sandwich variance and one degree of freedom fewer than patients."""
    mean = sums.sum() / sizes.sum()
    residuals = sums - mean * sizes
    error = math.sqrt(PATIENTS / (PATIENTS - 1) * float(residuals @ residuals)) / sizes.sum()
    return float(2 * t.sf(abs(mean) / error, PATIENTS - 1))


def wrong(times: int, sets: int = SETS) -> list[float]:
    """Percent of sets in which each is wrong: plain interval, medkit's, plain test, medkit's."""
    rng, found = np.random.default_rng(0), np.zeros(4)
    sizes = np.array([ROWS * times] + [ROWS] * (PATIENTS - 1))
    of = np.repeat(np.arange(PATIENTS), sizes)
    names = [f"p{i}" for i in of]
    for _ in range(sets):
        scores = rng.normal(0, 1, PATIENTS)[of] + rng.normal(0, 0.5, len(of))
        sums = np.bincount(of, scores)
        low, high = plain_interval(sums, sizes)
        ours = bootstrap(DiceScore(), {"value": scores}, names)
        found += [
            not low <= 0 <= high,
            not ours.low <= 0 <= ours.high,
            plain_test(sums, sizes) < 0.05,
            paired_t(scores, np.zeros(len(of)), names).p < 0.05,
        ]
    return [100 * float(share) for share in found / sets]


def main() -> None:
    script.parser(__doc__).parse_args()
    columns = ("plain intervals", "these intervals", "plain t-test", "this t-test")
    rows = [(name, *wrong(times)) for name, times in SHARES.items()]
    note = (
        f"Percent of {SETS:,} simulated test sets of {PATIENTS} patients whose 95 % interval misses the true mean, or "
        f"whose test of a difference that does not exist gives p < 0.05."
    )
    keep("uneven", {"one patient has of the rows": "", **dict.fromkeys(columns, ".1f")}, rows, note)


if __name__ == "__main__":
    main()
