"""Iterative stratification: groups that may have several labels each, dealt to folds that get their share of each.

Source: Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from medkit.data.fractions import draw


def deal(groups: Mapping[str, Collection[str]], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """The fold of each group, by the labels that it has.

    The label that fewest of the groups left have is dealt first, each of its groups to the fold that lacks most of it,
    then to the one that lacks most groups. Where as many groups are left as folds have none of the label, these get
    them: the paper has no such rule, and may leave a small fold without a rare label. Equal cases, which the paper
    draws, are decided by the seed and the names alone. Groups without labels are dealt last, by number.

    Parameters
    ----------
    groups:
        Labels of each.
    shares:
        Of the groups, by fold.
    """
    left = sorted(groups, key=lambda name: draw(seed, name))
    counts = _counts(groups, left)
    folds = [
        _Fold(name, share * len(groups), {k: share * n for k, n in counts.items()}) for name, share in shares.items()
    ]
    found: dict[str, str] = {}

    def give(group: str, fold: _Fold) -> None:
        found[group] = fold.name
        fold.take(groups[group])

    while counts := _counts(groups, left):
        label = min(counts, key=lambda name: (counts[name], draw(seed, name)))
        mine = [group for group in left if label in groups[group]]
        for i, group in enumerate(mine):
            without = [fold for fold in folds if not fold.has.get(label)]
            forced = len(mine) - i <= len(without)
            give(group, _neediest(without if forced else folds, label))
        left = [group for group in left if group not in found]
    for group in left:
        give(group, _neediest(folds, None))
    return found


@dataclass
class _Fold:
    """A fold, how many groups and how many with each label it lacks, and how many of each it has."""

    name: str
    lacks: float
    lacks_of: dict[str, float]
    has: dict[str, int] = field(default_factory=dict)

    def take(self, labels: Collection[str]) -> None:
        self.lacks -= 1
        for label in labels:
            self.lacks_of[label] -= 1
            self.has[label] = self.has.get(label, 0) + 1


def _neediest(folds: Sequence[_Fold], label: str | None) -> _Fold:
    """The fold that lacks most of a label, then most groups, then the first."""
    return max(folds, key=lambda fold: (round(fold.lacks_of[label], 9) if label else 0, round(fold.lacks, 9)))


def _counts(groups: Mapping[str, Collection[str]], left: Sequence[str]) -> dict[str, int]:
    """How many of the groups left have each label."""
    counts: dict[str, int] = {}
    for group in left:
        for label in groups[group]:
            counts[label] = counts.get(label, 0) + 1
    return counts
