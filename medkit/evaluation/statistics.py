"""Tests of two systems on the same cases. Rows of one patient are not independent: tests go by patient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from medkit.evaluation.bootstrap import DRAWS, bootstrap_interval, resamples, summed, too_few
from medkit.parts.intervals import (
    FEWEST_OF_A_KIND,
    in_effect,
    numbered,
    placement_variance,
    placements,
    rests_on_one,
    uneven,
)

__all__ = [
    "DRAWS",
    "Test",
    "bootstrap_interval",
    "bootstrap_test",
    "delong",
    "delong_interval",
    "holm",
    "paired_t",
    "placements",
    "wilcoxon",
]

SAME_SHIFT = "the difference is the same in every patient"


@dataclass(frozen=True)
class Test:
    """The result of comparing two systems on the same cases: ``difference`` is first minus second.

    ``n`` rows of ``patients`` patients were compared. ``p`` is nan if the test is not defined; ``why`` says why.
    ``toward`` is the sign of what was tested, if that is not ``difference``: ranks may favour one system and the mean
    the other.
    """

    name: str
    difference: float
    p: float
    n: int
    patients: int = 0
    why: str = ""
    toward: int = 0

    @property
    def divided(self) -> bool:
        """Whether what was tested favours one system and the mean difference the other."""
        return self.toward * self.difference < 0

    @property
    def stars(self) -> str:
        """* for p < 0.05, ** for p < 0.01, *** for p < 0.001; none where neither system is better."""
        return (
            "" if self.divided or not self.p < 0.05 else "*" if self.p >= 0.01 else "**" if self.p >= 0.001 else "***"
        )

    def undefined(self, why: str) -> Test:
        """This comparison without a p-value."""
        return replace(self, p=math.nan, why=why)


class _Paired:
    """Differences of two systems, row by row, and whose rows they are.

    Scores are (n,), or (n,K) of K classes, nan where a row does not have one. The mean is then that over classes of
    each class's mean over its rows, in which a row counts as often as ``weights`` say.
    """

    def __init__(
        self,
        name: str,
        a: np.ndarray,
        b: np.ndarray,
        clusters: Sequence[str] | None,
        weights: np.ndarray | None = None,
    ) -> None:
        each = np.asarray(a, float) - np.asarray(b, float)
        n = len(each)
        each = each[:, None] if each.ndim == 1 else each
        there = ~np.isnan(each) if each.shape[1] > 1 else np.ones(each.shape, bool)
        self.each = np.where(there, each, 0)
        self.index: np.ndarray
        self.index, self.count = (np.arange(n), n) if clusters is None else numbered(clusters)
        times = there * (np.ones(n) if weights is None else np.asarray(weights, float))[:, None]
        self.sums, self.sizes = (self._by_patient(values) for values in (times * self.each, times))
        """(patients, K): of each class, the sum of weighted differences and of weights."""
        self.total = self.sizes.sum(0)
        self.means = self.sums.sum(0) / self.total if n else np.full(each.shape[1], math.nan)
        """Of each class."""
        self.mean = float(self.means.mean()) if n else math.nan
        self.test = Test(name, self.mean, math.nan, n, self.count)

    def _by_patient(self, values: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(self.index, column, self.count) for column in values.T], 1)

    @property
    def of_patients(self) -> np.ndarray:
        """Each patient's mean difference; a class counts by how much of it the patient has."""
        if len(self.total) == 1:
            return self.sums[:, 0] / self.sizes[:, 0]
        return np.asarray((self.sums / self.total).sum(1) / (self.sizes / self.total).sum(1))

    @property
    def in_effect(self) -> float:
        """The effective number of patients, one more than the degrees of freedom.

        A mean over classes has no more than the classes' own have together (Welch and Satterthwaite, with the same
        variance in each), so that a class of few patients, which has as much weight as any other, counts as what it is.
        """
        if len(self.total) == 1:
            return in_effect(self.sizes[:, 0])
        each = np.array([in_effect(sizes) for sizes in self.sizes.T])
        together = float((1 / each).sum() ** 2 / (1 / (each**2 * (each - 1))).sum())
        return min(1 + together, in_effect((self.sizes / self.total).sum(1)))

    @property
    def error(self) -> float:
        """The standard error of the mean by patients: a sandwich, each class with its own number of patients."""
        several = (self.sizes > 0).sum(0)
        if len(self.total) == 1:
            residuals = self.sums[:, 0] - self.mean * self.sizes[:, 0]
            return math.sqrt(several[0] / (several[0] - 1) * float(residuals @ residuals)) / float(self.total[0])
        residuals = (self.sums - self.means * self.sizes) / self.total * np.sqrt(several / (several - 1))
        return math.sqrt(float(np.square(residuals.mean(1)).sum()))

    def without_spread(self, fewest: int) -> Test | None:
        """The result if nothing varies or there is too little to vary; None if there is something to test."""
        if not len(self.each):
            return self.test.undefined("no case")
        if not self.each.any():
            return replace(self.test, p=1.0)
        if self.count < fewest:
            return self.test.undefined(f"fewer than {fewest} patients")
        means = self.of_patients
        if np.ptp(means) <= 1e-12 * np.abs(means).max():
            return self.test.undefined(SAME_SHIFT)
        if len(self.total) == 1:
            one = rests_on_one(self.sizes[:, 0])
            return self.test.undefined(one) if one else None
        if ((self.sizes > 0).sum(0) < 2).any():
            return self.test.undefined("a class is of one patient only")
        if self.in_effect < 2:
            return self.test.undefined("a class is nearly of one patient only")
        return None


def paired_t(
    a: np.ndarray, b: np.ndarray, clusters: Sequence[str] | None = None, weights: np.ndarray | None = None
) -> Test:
    """Paired t-test of per-case scores (n,), or of their mean over classes (n,K), with ``weights`` (n,) of cases.

    If patients have several rows, the mean difference is compared with its variation between patients (sandwich
    variance) with one degree of freedom fewer than the effective number of patients (Kish 1965: below their actual
    number if some have many more rows than others). Undefined with fewer than three, as two numbers that happen to be
    close together would seem certain, and where one patient has nearly all rows.
    """
    paired = _Paired("paired t", a, b, clusters, weights)
    if (found := paired.without_spread(3)) is not None:
        return found
    if not (error := paired.error) > 0:
        return paired.test.undefined("the differences are so small that their squares are 0")
    return replace(paired.test, p=float(2 * stats.t.sf(abs(paired.mean) / error, paired.in_effect - 1)))


def wilcoxon(
    a: np.ndarray, b: np.ndarray, clusters: Sequence[str] | None = None, weights: np.ndarray | None = None
) -> Test:
    """Wilcoxon's signed-rank test of per-case scores; of patients' mean differences if they have several rows."""
    paired = _Paired("Wilcoxon", a, b, clusters, weights)
    if not paired.each.any():
        return replace(paired.test, p=1.0) if len(paired.each) else paired.test.undefined("no case")
    means = paired.of_patients
    if not means.any():
        return replace(paired.test, p=1.0)
    ranks = float(np.sign(means) @ stats.rankdata(np.abs(means)))
    return replace(paired.test, p=float(stats.wilcoxon(means).pvalue), toward=int(np.sign(ranks)))


def bootstrap_test(
    a: np.ndarray,
    b: np.ndarray,
    clusters: Sequence[str],
    weights: np.ndarray | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Test:
    """Two-sided bootstrap test of the mean difference, drawing patients; undefined with fewer than six of them.

    Scores and weights are as in :func:`paired_t`. A class that a draw does not have is left out of its mean.

    Its p is widened as the bootstrap's intervals are (expanded percentiles, Hesterberg 2015): with twelve patients the
    plain one is below 0.05 in about 10 of 100 samples without a difference.
    """
    paired = _Paired("bootstrap", a, b, clusters, weights)
    if few := too_few(paired.count):
        return paired.test.undefined(few)
    if (found := paired.without_spread(2)) is not None:
        return found
    both = np.concatenate([paired.sums, paired.sizes], 1)
    totals = np.concatenate([summed(chunk, both) for chunk in resamples(paired.count, draws, seed)])
    sums, sizes = np.split(totals, 2, axis=1)
    there = sizes > 0
    means = np.divide(sums, sizes, out=np.zeros_like(sums), where=there).sum(1) / there.sum(1)
    below = (np.sum(means <= 0) + 1) / (draws + 1)
    above = (np.sum(means >= 0) + 1) / (draws + 1)
    g, z = paired.in_effect, stats.norm.isf(min(below, above, 0.5))
    return replace(paired.test, p=_bounded(2 * float(stats.t.sf(z * math.sqrt((g - 1) / g), g - 1)), paired.count))


def _bounded(p: float, patients: int) -> float:
    """No p above 1, and none below that of an exact test with so few patients, which swaps the systems in each."""
    return float(min(1.0, max(p, 2.0 ** (1 - patients))))


def delong_interval(scores: np.ndarray, labels: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """AUC with DeLong's plain interval for independent rows, cut at 0 and 1, as other programs give it.

    It is too narrow for high AUCs of few cases, so metrics use :func:`medkit.parts.intervals.auc_interval`. nan
    if there is only one class or nothing varies.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, float)
    if not (labels > 0).any() or not (labels <= 0).any():
        return float("nan"), float("nan"), float("nan")
    auc, v10, v01 = placements(scores, labels)
    variance = placement_variance(v10, v01, labels)
    if not variance > 0:
        return auc, float("nan"), float("nan")
    half = stats.norm.ppf((1 + level) / 2) * math.sqrt(variance)
    return auc, max(0.0, auc - half), min(1.0, auc + half)


def delong(a: np.ndarray, b: np.ndarray, labels: np.ndarray, clusters: Sequence[str] | None = None) -> Test:
    """DeLong's test of two correlated ROC curves: scores ``a`` and ``b`` of the same cases.

    Its variance is Obuchowski's (1997) if patients have several rows. Undefined with fewer than six patients, with
    fewer than three of a class, where one patient has nearly all rows, and if the difference does not vary from case
    to case although there is one, as when one system separates a few cases and the other has the same score for
    all: any difference would seem certain.
    """
    labels = np.asarray(labels)
    n = len(labels)
    index, patients = (np.arange(n), n) if clusters is None else numbered(clusters)
    found = Test("DeLong", math.nan, math.nan, n, patients)
    if min((labels > 0).sum(), (labels <= 0).sum()) < 1:
        return found.undefined("one class only")
    auc_a, v10_a, v01_a = placements(np.asarray(a, float), labels)
    auc_b, v10_b, v01_b = placements(np.asarray(b, float), labels)
    found = replace(found, difference=auc_a - auc_b)
    if few := too_few(patients):
        return found.undefined(few)
    if one := rests_on_one(np.bincount(index)):
        return found.undefined(one)
    if min(len(np.unique(index[kind])) for kind in (labels > 0, labels <= 0)) < FEWEST_OF_A_KIND:
        return found.undefined("fewer than three patients of a class")
    variance = placement_variance(v10_a - v10_b, v01_a - v01_b, labels, index)
    if variance == 0:
        same = abs(found.difference) < 1e-12
        return replace(found, p=1.0) if same else found.undefined("the difference does not vary from case to case")
    error = math.sqrt(variance) * uneven(labels, index)
    return replace(found, p=_bounded(2 * stats.norm.sf(abs(found.difference) / error), patients))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's correction for several tests; undefined ones stay undefined and do not count."""
    known = [i for i, value in enumerate(p) if not math.isnan(value)]
    order = sorted(known, key=lambda i: p[i])
    corrected = list(p)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p[i]))
        corrected[i] = highest
    return corrected
