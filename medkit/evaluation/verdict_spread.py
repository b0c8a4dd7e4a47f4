"""Do trainings of one method differ less than those of another? The ratio of two deviations over seeds.

For each training the mean over the test patients counts. If both methods have the same seeds their means are pairs,
and the ratio is judged by Pitman's and Morgan's exact test of two correlated variances (Pitman 1939, Biometrika 31, 9;
Morgan 1939, ibid. 13), whose interval is Pitman's too; else by the F distribution. Both assume that means of trainings
are normal, and both are about new trainings on *these* patients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from medkit.errors import InputError
from medkit.evaluation.verdict_copies import copies
from medkit.evaluation.verdict_result import Compared, corrected, marked
from medkit.evaluation.verdict_table import matched, method_cells, others, read_cells

FEWEST_SEEDS = 4
"""With three pairs one degree of freedom is left, and an interval reaches from nothing to everything."""


@dataclass(frozen=True)
class SpreadVerdict(Compared):
    """The deviation over seeds of method ``a``, divided by that of ``b``, with its 95 % interval.

    ``p_holm`` is corrected for all comparisons that were made together. If nothing varies, all are nan.
    """

    a: str
    b: str
    ratio: float
    low: float
    high: float
    p: float
    p_holm: float
    deviations: tuple[float, float]
    seeds: int
    seeds_b: int
    patients: int
    paired: bool
    notes: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()

    @property
    def steadier(self) -> str | None:
        """The method whose trainings are shown to differ less; None if neither is."""
        return self.shown(self.ratio < 1)


def spread_verdicts(table: Any, reference: str, methods: Sequence[str] = ()) -> list[SpreadVerdict]:
    """Several methods (by default all others) against one reference; ``table`` is that of a verdict.

    Raises
    ------
    InputError
        with fewer than four seeds, for methods that are not there, and for patients that not all have.
    """
    read = read_cells(table)
    cells, where = read.cells, read.where
    found = []
    for other in others(cells, reference, methods):
        both = (other, reference)
        for method in both:
            seeds = len(method_cells(cells, method, where))
            if seeds < FEWEST_SEEDS:
                what = f"'{method}' has {seeds} seeds, a verdict on their spread needs {FEWEST_SEEDS}"
                raise InputError(what, where, f"train it with {FEWEST_SEEDS - seeds} more")
        seeds_of = {method: sorted(cells[method]) for method in both}
        values, _ = matched(cells, both, seeds_of, False, where)
        a, b = (values[method].means.mean(1) for method in both)
        paired = seeds_of[other] == seeds_of[reference]
        ratio, low, high, p = paired_ratio(a, b) if paired else unpaired_ratio(a, b)
        deviations = (math.sqrt(variance(a)), math.sqrt(variance(b)))
        notes = tuple(copies({method: values[method].means for method in both}, paired))
        design = (len(a), len(b), values[other].means.shape[1], paired, notes)
        found.append(SpreadVerdict(other, reference, ratio, low, high, p, p, deviations, *design))
    return marked(corrected(found), read.seen)


def variance(values: np.ndarray) -> float:
    """Of a sample; 0 if all are equal, also where their mean rounds to another number."""
    return 0.0 if np.ptp(values) <= 1e-12 * np.abs(values).max() else float(values.var(ddof=1))


def paired_ratio(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float, float]:
    """SD(a) / SD(b) of pairs (n,), its 95 % interval and p; nan if one of them does not vary."""
    n = len(a)
    variance_a, variance_b = variance(a), variance(b)
    if not (variance_a > 0 and variance_b > 0):
        return math.nan, math.nan, math.nan, math.nan
    square = variance_a / variance_b
    left = max(1 - float(np.corrcoef(a, b)[0, 1]) ** 2, 1e-12)  # of the variance that the other does not explain
    k = 1 + 2 * left * float(stats.t.ppf(0.975, n - 2)) ** 2 / (n - 2)
    low, high = (square * (k + sign * math.sqrt(k * k - 1)) for sign in (-1, 1))
    t = (square - 1) * math.sqrt(n - 2) / (2 * math.sqrt(square * left))
    return math.sqrt(square), math.sqrt(low), math.sqrt(high), float(2 * stats.t.sf(abs(t), n - 2))


def unpaired_ratio(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float, float]:
    """As :func:`paired_ratio`, for trainings that have nothing in common."""
    variance_a, variance_b = variance(a), variance(b)
    if not (variance_a > 0 and variance_b > 0):
        return math.nan, math.nan, math.nan, math.nan
    square, degrees = variance_a / variance_b, (len(a) - 1, len(b) - 1)
    low, high = square / stats.f.ppf(0.975, *degrees), square / stats.f.ppf(0.025, *degrees)
    below = float(stats.f.cdf(square, *degrees))
    return math.sqrt(square), math.sqrt(low), math.sqrt(high), 2 * min(below, 1 - below)
