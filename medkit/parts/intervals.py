"""95 % intervals of proportions and of areas under ROC curves, when rows of one patient are not independent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.stats import rankdata

NONE = (math.nan, math.nan)
FEWEST_OF_A_KIND = 3
"""With fewer patients who have positives, or negatives, an AUC has no interval and no test: of two, the interval covers
the AUC in 87 of 100 test sets, not in 95, and the test finds a difference where there is none in 12, not in 5."""


def numbered(names: Sequence[str]) -> tuple[np.ndarray, int]:
    """The number of each row's patient (n,), from 0 in order of appearance, and how many patients there are."""
    found: dict[str, int] = {}
    index = np.fromiter((found.setdefault(name, len(found)) for name in names), np.int64, len(names))
    return index, len(found)


def in_effect(sizes: np.ndarray) -> float:
    """The effective number of patients with ``sizes`` rows: how many with equally many would say as much (Kish 1965).

    It is their actual number if all have equally many, and hardly more than one if one of them has nearly all rows.
    """
    return float(sizes.sum()) ** 2 / float(np.square(sizes, dtype=float).sum())


def rests_on_one(sizes: np.ndarray) -> str:
    """Why there is no interval and no test where one patient has nearly all rows; empty if none has.

    However many others there are, their variation then says little about the mean over rows.
    """
    if in_effect(sizes) >= 2 or len(sizes) < 2:
        return ""
    return f"one of {len(sizes)} patients has {100 * float(sizes.max() / sizes.sum()):.0f} % of the rows"


def few_of_class(name: str, patients: np.ndarray) -> str:
    """Why a mean over classes has no interval: one class has (the names of) so few patients; empty if it has none or
    enough.

    Its part of the spread cannot be seen then, and is none at all with a single patient.
    """
    count = len(np.unique(patients))
    if not 0 < count < FEWEST_OF_A_KIND:
        return ""
    return f"{name} has {count} patient{'s' if count != 1 else ''}, fewer than {FEWEST_OF_A_KIND}"


def wilson(top: np.ndarray, bottom: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Interval of the proportion sum(top) / sum(bottom), from ``top`` right ones out of ``bottom`` in each patient.

    Wilson's score interval (1927), which does not shrink to a point when all or none are right. If patients have
    several rows, the number of rows is divided by the design effect that the patients' own proportions show, and by
    (t / z)^2 for its uncertainty (Korn and Graubard 1998; Dean and Pagano 2015), with one degree of freedom fewer than
    the effective number of patients (:func:`in_effect`). If all or none are right the design effect cannot be seen, and
    the effective number takes the place of the number of rows. nan without a patient who has rows.
    """
    counted = bottom > 0
    top, bottom = top[counted].astype(float), bottom[counted].astype(float)
    patients, rows = len(bottom), float(bottom.sum())
    if not patients:
        return NONE
    share = float(top.sum() / rows)
    n = rows
    if bottom.max() > 1:
        if patients < 2:
            return NONE
        z = stats.norm.ppf((1 + level) / 2)
        residuals = top - share * bottom
        variance = patients / (patients - 1) * float(residuals @ residuals) / rows**2
        if 0 < share < 1:
            n = min(rows, share * (1 - share) / variance) if variance > 0 else rows
            n *= (z / stats.t.ppf((1 + level) / 2, in_effect(bottom) - 1)) ** 2
        else:
            n = in_effect(bottom)
    return _wilson(share, max(n, 1e-9), level)


def _wilson(share: float, n: float, level: float) -> tuple[float, float]:
    z = stats.norm.ppf((1 + level) / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the formula is exact except for rounding.
    low = 0.0 if share == 0 else max(0.0, middle - half)
    return low, 1.0 if share == 1 else min(1.0, middle + half)


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


def placement_variance(
    v10: np.ndarray, v01: np.ndarray, labels: np.ndarray, patients: np.ndarray | None = None
) -> float:
    """Variance of the mean of placements: of an AUC, or of the difference of two from the placements' differences.

    DeLong et al. 1988 if every row is a separate patient; Obuchowski 1997 if ``patients`` (numbers, one per row)
    have several. nan if it cannot be estimated: one row, or one patient, of a class.
    """
    positive = labels > 0
    if patients is None or len(np.unique(patients)) == len(patients):
        if min(len(v10), len(v01)) < 2:
            return math.nan
        # Placements are multiples of 1/2m: what differs by less is the same except for rounding.
        parts = [0.0 if np.ptp(v) < 1e-12 else float(np.var(v, ddof=1)) / len(v) for v in (v10, v01)]
        return parts[0] + parts[1]
    count = int(patients.max()) + 1
    sums, sizes = [], []
    for chosen, v in ((positive, v10), (~positive, v01)):
        size = np.bincount(patients[chosen], minlength=count)
        sums.append(np.bincount(patients[chosen], v - v.mean(), minlength=count))
        sizes.append(size)
    those = [int((size > 0).sum()) for size in sizes]
    if min(those) < 2:
        return math.nan
    total = 0.0
    for own, each, size in zip(sums, those, sizes, strict=True):
        total += each / (each - 1) * float(own @ own) / float(size.sum()) ** 2
    everybody = int(((sizes[0] + sizes[1]) > 0).sum())
    total += 2 * everybody / (everybody - 1) * float(sums[0] @ sums[1]) / float(sizes[0].sum() * sizes[1].sum())
    return 0.0 if max(np.ptp(v10), np.ptp(v01)) < 1e-12 else max(0.0, total)


def uneven(labels: np.ndarray, patients: np.ndarray | None) -> float:
    """The factor by which an AUC's interval is wider because patients have unequal numbers of rows; 1 if they do not.

    For each class, the ratio of Student's t with the degrees of freedom of the effective number of patients to that
    of their actual number; of the two, the larger.
    """
    ratio = 1.0
    if patients is None:
        return ratio
    for chosen in (labels > 0, labels <= 0):
        sizes = np.unique(patients[chosen], return_counts=True)[1]
        if len(sizes) > 1 and sizes.min() < sizes.max():
            ends = stats.t.ppf(0.975, np.array([in_effect(sizes), len(sizes)]) - 1)
            ratio = max(ratio, float(ends[0] / ends[1]))
    return ratio


def auc_interval(
    scores: np.ndarray, labels: np.ndarray, patients: np.ndarray | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Interval of an area under the ROC curve.

    DeLong's variance (Obuchowski's if patients have several rows) on the logit scale, so that it is not cut off at
    1, and wider if the numbers of rows are unequal (:func:`uneven`). If there is no variance, as with perfectly
    separated classes, the score interval of Newcombe (2006, method 5), which needs only how many positives and
    negatives there are; then each patient counts as one of each. nan if a class has fewer than two rows or
    patients.
    """
    if min((labels > 0).sum(), (labels <= 0).sum()) < 2:
        return NONE
    auc, v10, v01 = placements(np.asarray(scores, float), labels)
    variance = placement_variance(v10, v01, labels, patients)
    if math.isnan(variance):
        return NONE
    z = float(stats.norm.ppf((1 + level) / 2))
    if variance == 0 or not 0 < auc < 1:
        those = np.arange(len(labels)) if patients is None else patients
        return _separated(auc, len(np.unique(those[labels > 0])), len(np.unique(those[labels <= 0])), z)
    middle, half = math.log(auc / (1 - auc)), z * uneven(labels, patients) * math.sqrt(variance) / (auc * (1 - auc))
    return 1 / (1 + math.exp(min(700.0, half - middle))), 1 / (1 + math.exp(max(-700.0, -half - middle)))


def _separated(auc: float, m: int, n: int, z: float) -> tuple[float, float]:
    """Values of the true AUC from which ``auc`` is less than z standard errors away, by Newcombe's variance."""
    extra = (m + n) / 2 - 1

    def error(true: float) -> float:
        spread = 1 + extra * (1 - true) / (2 - true) + extra * true / (1 + true)
        return z * math.sqrt(true * (1 - true) * spread / (m * n))

    # Right next to the value itself the standard error is the larger of the two, even if the value is 0 or 1.
    step = 1e-12
    low = 0.0 if auc <= 0 else float(brentq(lambda true: auc - true - error(true), 0, auc - step))
    high = 1.0 if auc >= 1 else float(brentq(lambda true: true - auc - error(true), auc + step, 1))
    return low, high
