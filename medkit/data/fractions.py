"""A fraction of a split: the first patients of a fixed order, so that a smaller fraction is part of a larger one.

The order is a pure function of the patients, their labels and a seed. Every stratum is spread evenly over it, so that
each fraction has about the same shares as the whole.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medkit.errors import InputError

RANGES = 5
"""Strata for labels that are measurements: ranges with equally many patients."""
AT_LEAST = 5
"""Least mean number of cases per class if there are more than two; rarer values are measurements."""


@dataclass(frozen=True)
class Chosen:
    """Which cases are in a fraction.

    Attributes
    ----------
    inside:
        (n,) booleans.
    patients, total:
        How many are in it, and in total.
    strata:
        By what it is stratified, in words.
    classes:
        (n,) the class of each case, as ``label = 1`` or ``unlabelled``; empty if labels are measurements.
    smallest:
        The smallest fraction that has every class.
    """

    inside: np.ndarray
    patients: int
    total: int
    strata: str
    classes: Sequence[str]
    smallest: float

    def check(self, fraction: float, where: str, classes: bool = True) -> None:
        """Refuse a fraction without a patient or, if ``classes`` matter, without a case of some class.

        Raises
        ------
        InputError
            with the smallest fraction that works.
        """
        if not self.patients:
            what = f"{fraction:g} of {self.total} patients is less than one"
            raise InputError(what, where, f"the smallest fraction with one is {_up(0.5 / self.total):g}")
        kept = {name for name, inside in zip(self.classes, self.inside, strict=False) if inside}
        missing = sorted(set(self.classes) - kept - {UNLABELLED})
        if missing and classes:
            what = f"{self.patients} of {self.total} patients have no case with {' or '.join(missing)}"
            hint = f"the smallest fraction with every class is {self.smallest:g}"
            raise InputError(what, where, hint)


UNLABELLED = "unlabelled"


def choose(people: Sequence[str], labels: np.ndarray, fraction: float, seed: int) -> Chosen:
    """The cases of a fraction of the patients.

    Parameters
    ----------
    people:
        The patient of each case.
    labels:
        (n,) labels of the cases, nan if missing.
    """
    largest: dict[str, float] = {}
    for name, label in zip(people, labels.tolist(), strict=True):
        known = largest.get(name, math.nan)
        largest[name] = label if math.isnan(known) else known if math.isnan(label) else max(known, label)
    names = list(largest)
    each = np.array([largest[name] for name in names])
    found, by, are_classes = strata(each, labels)
    order = _order(names, found, seed)
    count = math.floor(fraction * len(names) + 0.5 + 1e-9)
    chosen = {names[i] for i in order[:count]}
    inside = np.array([name in chosen for name in people], bool)
    classes = [UNLABELLED if math.isnan(y) else f"label = {y:g}" for y in labels.tolist()] if are_classes else []
    return Chosen(inside, count, len(names), by, classes, _smallest(people, classes, [names[i] for i in order]))


def strata(each: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, str, bool]:
    """The stratum of each patient by the largest label, how they are stratified in words, and whether labels are
    classes."""
    known = labels[~np.isnan(labels)]
    distinct = np.unique(known)
    if not len(distinct):
        return np.zeros(len(each), int), "not stratified, because no case has a label", False
    missing = np.isnan(each)
    whole = bool((distinct == np.round(distinct)).all())
    if len(distinct) <= 2 or (whole and len(known) >= AT_LEAST * len(distinct)):
        found, words = np.searchsorted(distinct, np.where(missing, 0, each)), "stratified by label"
        counts = len(distinct)
    else:
        edges = np.quantile(each[~missing], np.linspace(0, 1, RANGES + 1)[1:-1])
        found, words = np.searchsorted(edges, np.where(missing, 0, each)), f"stratified by {RANGES} ranges of the label"
        counts = RANGES
    words += " (a patient's largest)" if len(labels) > len(each) else ""
    return np.where(missing, counts, found), words, counts == len(distinct)


def draw(seed: int, name: str) -> bytes:
    """A hash that sorts names in an order fixed by the seed."""
    return hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest()


def _order(names: Sequence[str], strata: np.ndarray, seed: int) -> list[int]:
    """All patients, those of each stratum in an order fixed by the seed and evenly spread."""
    drawn = [draw(seed, name) for name in names]
    place: dict[int, float] = {}
    for stratum in np.unique(strata).tolist():
        mine = sorted(np.flatnonzero(strata == stratum).tolist(), key=lambda i: drawn[i])
        place |= {i: (rank + 0.5) / len(mine) for rank, i in enumerate(mine)}
    return sorted(place, key=lambda i: (place[i], drawn[i]))


def _smallest(people: Sequence[str], classes: Sequence[str], order: Sequence[str]) -> float:
    """The smallest fraction of the order with a case of every class."""
    first = {name: position for position, name in enumerate(order)}
    earliest: dict[str, int] = {}
    for name, kind in zip(people, classes, strict=False):
        if kind != UNLABELLED:
            earliest[kind] = min(earliest.get(kind, len(order)), first[name])
    return _up((max(earliest.values(), default=0) + 0.5) / len(order))


def _up(fraction: float) -> float:
    """Rounded up to four decimal places."""
    return min(1.0, math.ceil(fraction * 1e4 - 1e-6) / 1e4)
