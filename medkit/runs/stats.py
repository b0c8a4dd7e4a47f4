"""Intervals and tests. Rows of one patient are not independent: intervals resample patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.stats import rankdata

DRAWS = 1000


def bootstrap_interval(
    compute: Callable[[Mapping[str, np.ndarray]], float],
    rows: Mapping[str, np.ndarray],
    clusters: Sequence[str],
    *,
    draws: int = DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of ``compute(rows)``, drawing whole clusters (patients) with replacement.

    Parameters
    ----------
    rows:
        Columns of equal length.
    clusters:
        The patient of each row.

    Returns
    -------
    low, high:
        nan with fewer than two clusters. Draws whose value is undefined are left out.
    """
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    count = int(index.max()) + 1 if len(index) else 0
    if count < 2:
        return float("nan"), float("nan")
    order = np.argsort(index, kind="stable")
    bounds = np.searchsorted(index[order], np.arange(count + 1))
    members = [order[bounds[i] : bounds[i + 1]] for i in range(count)]
    rng = np.random.default_rng(seed)
    values = np.empty(draws)
    for k, drawn in enumerate(rng.integers(count, size=(draws, count))):
        picked = np.concatenate([members[i] for i in drawn])
        values[k] = compute({name: column[picked] for name, column in rows.items()})
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Test:
    """The result of comparing two systems on the same cases: ``difference`` is first minus second."""

    name: str
    difference: float
    p: float
    n: int

    @property
    def stars(self) -> str:
        """* for p < 0.05, ** for p < 0.01, *** for p < 0.001."""
        return "" if not self.p < 0.05 else "*" if self.p >= 0.01 else "**" if self.p >= 0.001 else "***"


def paired_t(a: np.ndarray, b: np.ndarray) -> Test:
    """Paired t-test of per-case scores."""
    difference = np.asarray(a, float) - np.asarray(b, float)
    n = len(difference)
    if n < 2 or np.all(difference == difference[0]):
        # No spread: equal scores show no difference, equal shifts cannot be tested.
        p = 1.0 if n and not difference.any() else float("nan")
        return Test("paired t", float(difference.mean()) if n else float("nan"), p, n)
    return Test("paired t", float(difference.mean()), float(stats.ttest_rel(a, b).pvalue), n)


def wilcoxon(a: np.ndarray, b: np.ndarray) -> Test:
    """Wilcoxon's signed-rank test of per-case scores."""
    difference = np.asarray(a, float) - np.asarray(b, float)
    n = len(difference)
    p = float(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0 if n else float("nan")
    return Test("Wilcoxon", float(difference.mean()) if n else float("nan"), p, n)


def bootstrap_test(a: np.ndarray, b: np.ndarray, clusters: Sequence[str], draws: int = 2000, seed: int = 0) -> Test:
    """Two-sided bootstrap test of the mean difference, drawing patients."""
    difference = np.asarray(a, float) - np.asarray(b, float)
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums, counts = np.bincount(index, difference), np.bincount(index)
    picks = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    means = sums[picks].sum(1) / counts[picks].sum(1)
    below = (np.sum(means <= 0) + 1) / (draws + 1)
    above = (np.sum(means >= 0) + 1) / (draws + 1)
    return Test("bootstrap", float(difference.mean()), float(min(1.0, 2 * min(below, above))), len(difference))


def placements(scores: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """AUC with the structural components of positives (V10) and negatives (V01), by midranks in O(n log n).

    Source: DeLong et al. 1988; Sun and Xu 2014.
    """
    positive = scores[labels > 0]
    negative = scores[labels <= 0]
    m, n = len(positive), len(negative)
    joint = rankdata(np.concatenate([positive, negative]))
    v10 = (joint[:m] - rankdata(positive)) / n
    v01 = 1 - (joint[m:] - rankdata(negative)) / m
    return float(v10.mean()), v10, v01


def delong_interval(scores: np.ndarray, labels: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """AUC with DeLong's interval, cut at 0 and 1; nan when only one class is there."""
    labels, scores = np.asarray(labels), np.asarray(scores, float)
    if not (labels > 0).any() or not (labels <= 0).any():
        return float("nan"), float("nan"), float("nan")
    auc, v10, v01 = placements(scores, labels)
    variance = _variance(v10) / len(v10) + _variance(v01) / len(v01)
    half = stats.norm.ppf((1 + level) / 2) * math.sqrt(variance)
    return auc, max(0.0, auc - half), min(1.0, auc + half)


def delong(a: np.ndarray, b: np.ndarray, labels: np.ndarray) -> Test:
    """DeLong's test of two correlated ROC curves: scores ``a`` and ``b`` of the same cases.

    Undefined with fewer than two cases of a class: one alone has no variance, so any difference would seem certain.
    """
    labels = np.asarray(labels)
    n = len(labels)
    if min((labels > 0).sum(), (labels <= 0).sum()) < 2:
        return Test("DeLong", float("nan"), float("nan"), n)
    auc_a, v10_a, v01_a = placements(np.asarray(a, float), labels)
    auc_b, v10_b, v01_b = placements(np.asarray(b, float), labels)
    variance = _variance(v10_a - v10_b) / len(v10_a) + _variance(v01_a - v01_b) / len(v01_a)
    difference = auc_a - auc_b
    if variance <= 0:
        return Test("DeLong", difference, 1.0 if difference == 0 else 0.0, n)
    return Test("DeLong", difference, float(2 * stats.norm.sf(abs(difference) / math.sqrt(variance))), n)


def _variance(x: np.ndarray) -> float:
    return float(np.var(x, ddof=1)) if len(x) > 1 else 0.0


def holm(p: Sequence[float]) -> list[float]:
    """Holm's correction for several tests; undefined ones stay so and do not count."""
    known = [i for i, value in enumerate(p) if not math.isnan(value)]
    order = sorted(known, key=lambda i: p[i])
    corrected = list(p)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p[i]))
        corrected[i] = highest
    return corrected
