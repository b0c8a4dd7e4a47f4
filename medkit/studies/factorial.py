"""Two-level fractional-factorial plans of resolution IV: main effects are free of each other and of all two-factor
interactions (Box, Hunter & Hunter, Statistics for Experimenters, 2005, chapter 6)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MOST = 16
"""Factors: 32 runs."""
NONE = "none"
"""The method without any factor."""


@dataclass(frozen=True)
class Plan:
    """Which factors each run has: ``signs`` (runs, factors), -1 without and +1 with; the first run has none."""

    factors: tuple[str, ...]
    signs: np.ndarray

    @property
    def runs(self) -> list[tuple[str, ...]]:
        """The factors of each run."""
        return [tuple(f for f, sign in zip(self.factors, row, strict=True) if sign > 0) for row in self.signs]

    @staticmethod
    def name(run: Sequence[str]) -> str:
        """The name of the method that a run stands for."""
        return "+".join(run) or NONE

    def aliases(self) -> list[tuple[tuple[str, str], ...]]:
        """Two-factor interactions that cannot be told apart."""
        groups: dict[bytes, list[tuple[str, str]]] = {}
        for i, j in itertools.combinations(range(len(self.factors)), 2):
            groups.setdefault((self.signs[:, i] * self.signs[:, j]).tobytes(), []).append(
                (self.factors[i], self.factors[j])
            )
        return [tuple(pairs) for pairs in groups.values() if len(pairs) > 1]

    def resolution(self) -> int:
        """The number of factors in the shortest product that is the same in all runs; one more than there are factors
        if there is none (a full plan)."""
        count = len(self.factors)
        for size in range(1, count + 1):
            for some in itertools.combinations(range(count), size):
                if abs(int(self.signs[:, some].prod(axis=1).sum())) == len(self.signs):
                    return size
        return count + 1


def plan_of(factors: Sequence[str]) -> Plan:
    """The smallest plan of resolution IV (full for up to three factors) with 2^m runs, for at most 2^(m - 1) factors.

    Its columns are products of odd numbers of m independent ones. So no two or three of them make a constant, and it
    includes the run with none of the factors, as well as the one with all.

    Raises
    ------
    ValueError
        for no factor, or more than ``MOST``.
    """
    count = len(factors)
    if not 1 <= count <= MOST:
        raise ValueError(f"1 to {MOST} factors, not {count}")
    basic = next(m for m in range(1, MOST) if count <= 2 ** (m - 1))
    if count <= 3:
        basic = count
    levels = np.array(list(itertools.product((-1, 1), repeat=basic)), np.int8)
    odd = [some for size in range(1, basic + 1, 2) for some in itertools.combinations(range(basic), size)]
    columns = np.stack([levels[:, some].prod(axis=1) for some in odd[:count]], axis=1)
    return Plan(tuple(factors), columns.astype(np.int8))
