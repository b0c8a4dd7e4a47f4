"""Iterative stratification: groups with possibly several labels, assigned to folds so that each gets its share.

Source: Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from medkit.data.fractions import draw


def deal(groups: Mapping[str, Collection[str]], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """The fold of each group, by its labels.

    The rarest label among the remaining groups comes first; each of its groups goes to the fold that lacks most of it,
    and on a tie to the one that lacks most groups. If only as many groups remain as folds have none of the label, those
    folds get them; the paper has no such rule, and may leave a small fold without a rare label. Ties, which the paper
    breaks at random, are decided by the seed and the names alone. Groups without labels come last, by number.

    Parameters
    ----------
    groups:
        Labels of each group.
    shares:
        Share of the groups, by fold.
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
    """A fold: how many groups it lacks, in all and with each label, and how many with each label it has."""

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
    """How many of the remaining groups have each label."""
    counts: dict[str, int] = {}
    for group in left:
        for label in groups[group]:
            counts[label] = counts.get(label, 0) + 1
    return counts
