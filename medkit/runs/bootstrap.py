"""The bootstrap over patients. Rows of one patient are not independent, so patients are drawn with all their rows."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from medkit.parts.intervals import numbered

FEWEST = 6
"""With fewer patients there is no interval and no test: every number of them would be an accident."""
FEW = 10
"""Intervals of fewer patients are marked."""

DRAWS, DRAWS_OF_FEW = 1000, 4000
KEPT = 96 * 2**20  # bytes of drawn counts that are kept for the next metric
AT_ONCE = 2**16  # counts that are multiplied at once: they stay in the processor's cache
JACKKNIFED = 200  # patients left out one by one where that means computing the metric anew

Rows = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, nan if there is none; ``method`` says in words how it was made, or why there is none.

    In ``undefined`` of the draws the metric was not defined (a class was missing, say); they are left out.
    """

    low: float
    high: float
    method: str
    undefined: int = 0


def none(why: str, undefined: int = 0) -> Interval:
    return Interval(math.nan, math.nan, f"no interval: {why}", undefined)


def too_few(patients: int) -> str:
    """Why there is no interval and no test; empty if there are patients enough."""
    if patients >= FEWEST:
        return ""
    return f"{patients} patient{'s' if patients != 1 else ''}, fewer than {FEWEST}"


def picks(count: int, draws: int, seed: int = 0) -> Iterator[np.ndarray]:
    """(count,) numbers of the patients drawn, with repetition, for each draw; the same for every metric."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield rng.integers(count, size=count)


def resamples(count: int, draws: int, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each patient is among :func:`picks`: chunks (c,count) uint8 of all draws.

    They are counted once and kept while they are small, else counted again: memory stays bounded.
    """
    return iter(_kept(count, draws, seed) if draws * count <= KEPT else _counted(count, draws, seed))


@functools.lru_cache(maxsize=2)
def _kept(count: int, draws: int, seed: int) -> tuple[np.ndarray, ...]:
    return tuple(_counted(count, draws, seed))


def _counted(count: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    step, drawn = max(1, AT_ONCE // count), picks(count, draws, seed)
    for start in range(0, draws, step):
        chunk = np.empty((min(step, draws - start), count), np.uint8)
        for row in chunk:
            row[:] = np.bincount(next(drawn), minlength=count)
        yield chunk


def bootstrap(
    metric: Any, rows: Rows, patients: Sequence[str], *, draws: int | None = None, level: float = 0.95, seed: int = 0
) -> Interval:
    """Bootstrap interval of ``metric.compute(rows)``, bias-corrected and accelerated (BCa; Efron 1987).

    Its quantiles are widened as Student's t is wider than the normal (Hesterberg 2015, expanded percentiles): plain
    ones hold the true value of six patients in about 80 of 100 samples, these in about 90 to 95.

    Parameters
    ----------
    metric:
        Anything with ``compute(rows)``. One that has ``terms`` and ``of_sums``
        (:class:`medkit.parts.metrics_sums.SumMetric`) is computed for all draws at once; one that has
        ``picked(rows)``, a function of the numbers of rows with repetition, may prepare what all draws share.
    rows:
        Columns of equal length.
    patients:
        The patient of each row.
    """
    index, count = numbered(patients)
    if few := too_few(count):
        return none(few)
    draws = draws or (DRAWS if count >= 100 else DRAWS_OF_FEW)
    by = _BySums(metric, rows, index, count) if hasattr(metric, "of_sums") else _ByRows(metric, rows, index, count)
    values = by.drawn(draws, seed)
    defined = values[np.isfinite(values)]
    undefined = len(values) - len(defined)
    if 2 * undefined > draws:
        return none(f"undefined in {undefined} of {draws} draws", undefined)
    if np.ptp(defined) <= 1e-12 * max(1.0, float(np.abs(defined).max())):
        return none("it is the same in every draw", undefined)
    low, high = np.quantile(defined, _levels(by, defined, count, level))
    return Interval(float(low), float(high), "bootstrap", undefined)


def _levels(by: Any, defined: np.ndarray, count: int, level: float) -> np.ndarray:
    """At which quantiles of the draws the interval ends."""
    wide = math.sqrt(count / (count - 1)) * stats.t.ppf((1 + level) / 2, count - 1)
    z = np.array([-wide, wide])
    below = (np.sum(defined < by.value) + 0.5 * np.sum(defined == by.value)) / len(defined)
    bias = stats.norm.ppf(np.clip(below, 0.5 / len(defined), 1 - 0.5 / len(defined)))
    without = by.without()
    without = without[np.isfinite(without)]
    acceleration = 0.0
    if len(without) > 1:
        away = without.mean() - without
        square = float(np.sum(away**2))
        acceleration = float(np.sum(away**3)) / (6 * square**1.5) if square > 0 else 0.0
    stretch = 1 - acceleration * (bias + z)
    if (stretch <= 0).any():
        return np.asarray(stats.norm.cdf(z))
    return np.asarray(stats.norm.cdf(bias + (bias + z) / stretch))


class _BySums:
    """A metric that is a function of sums over rows."""

    def __init__(self, metric: Any, rows: Rows, index: np.ndarray, count: int) -> None:
        self.of_sums = metric.of_sums
        terms = np.asarray(metric.terms(rows), float)
        self.sums = np.stack([np.bincount(index, column, count) for column in terms.T], 1)
        self.value = float(self.of_sums(self.sums.sum(0)))

    def drawn(self, draws: int, seed: int) -> np.ndarray:
        chunks = resamples(len(self.sums), draws, seed)
        return np.concatenate([np.asarray(self.of_sums(chunk.astype(float) @ self.sums), float) for chunk in chunks])

    def without(self) -> np.ndarray:
        """The metric without each patient."""
        return np.asarray(self.of_sums(self.sums.sum(0) - self.sums), float)


class _ByRows:
    """Any other metric, computed from the rows of each draw."""

    def __init__(self, metric: Any, rows: Rows, index: np.ndarray, count: int) -> None:
        self.compute: Callable[[Rows], float] = metric.compute
        self.rows, self.index, self.count = rows, index, count
        self.value = float(self.compute(rows))
        self.of: Callable[[np.ndarray], float] = metric.picked(rows) if hasattr(metric, "picked") else self._of

    def drawn(self, draws: int, seed: int) -> np.ndarray:
        members = _members(self.index, self.count)
        return np.array([float(self.of(members(drawn))) for drawn in picks(self.count, draws, seed)])

    def without(self) -> np.ndarray:
        """The metric without each patient; of many patients it makes no difference, and none is left out."""
        if self.count > JACKKNIFED:
            return np.empty(0)
        return np.array([float(self.of(np.flatnonzero(self.index != patient))) for patient in range(self.count)])

    def _of(self, rows: np.ndarray) -> float:
        return self.compute({name: column[rows] for name, column in self.rows.items()})


def _members(index: np.ndarray, count: int) -> Callable[[np.ndarray], np.ndarray]:
    """The rows of drawn patients, as a function of the patients' numbers."""
    if len(index) == count:  # a row each, in the order of the patients
        return lambda drawn: drawn
    order, sizes = np.argsort(index, kind="stable"), np.bincount(index, minlength=count)
    ends = np.cumsum(sizes)

    def rows(drawn: np.ndarray) -> np.ndarray:
        each = sizes[drawn]
        shift = ends[drawn] - np.cumsum(each)
        return order[np.repeat(shift, each) + np.arange(int(each.sum()))]

    return rows


@dataclass(frozen=True)
class _Computed:
    compute: Callable[[Rows], float]


def bootstrap_interval(
    compute: Callable[[Rows], float], rows: Rows, clusters: Sequence[str], **options: Any
) -> tuple[float, float]:
    """:func:`bootstrap` of a plain function of rows: low and high, nan if there is no interval."""
    owner = getattr(compute, "__self__", None)  # a metric's own method: what else the metric has is used too
    metric = owner if owner is not None and getattr(owner, "compute", None) == compute else _Computed(compute)
    found = bootstrap(metric, rows, clusters, **options)
    return found.low, found.high
