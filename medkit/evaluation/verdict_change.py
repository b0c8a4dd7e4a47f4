"""Does one method lose less than another from one test set to the next, such as from its own hospital to others?

With seeds paired, the difference between two methods in seed s and patient p is split as in a verdict
(:mod:`medkit.evaluation.verdict_variance`), on each of two test sets with different patients. The change of a
training's mean difference from one set to the other has the variance U over seeds, seen directly, and the estimate

    U / n_s + P_after / n_after + P_before / n_before,

with degrees of freedom combined as there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medkit.errors import InputError
from medkit.evaluation.bootstrap import FEWEST
from medkit.evaluation.verdict import FEWEST_SEEDS
from medkit.evaluation.verdict_copies import copies
from medkit.evaluation.verdict_result import Compared, corrected
from medkit.evaluation.verdict_table import Cells, matched, method_cells, others, read_cells
from medkit.evaluation.verdict_variance import JOINED, Uncertainty, join, paired_spread


@dataclass(frozen=True)
class ChangeVerdict(Compared):
    """How much more the difference ``a`` minus ``b`` is on one test set than on the one before, with its interval.

    Above 0, if higher is better, ``a`` loses less than ``b``. ``p_holm`` is corrected for all comparisons that were
    made together; if nothing varies, everything but the estimate is nan.
    """

    a: str
    b: str
    estimate: float
    low: float
    high: float
    p: float
    p_holm: float
    seeds: int
    patients: int
    patients_before: int
    higher_is_better: bool = True
    notes: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()

    @property
    def loses_less(self) -> str | None:
        """The method that is shown to lose less; None if neither is."""
        return self.shown((self.estimate > 0) == self.higher_is_better)


def change_verdicts(
    after: Any, before: Any, reference: str, methods: Sequence[str] = (), *, higher_is_better: bool = True
) -> list[ChangeVerdict]:
    """Several methods (by default all others) against one reference; both tables are those of verdicts.

    Raises
    ------
    InputError
        with fewer than three seeds or six patients, for methods that lack one of the other's seeds, and for patients
        that not all have.
    """
    tables = [read_cells(table) for table in (after, before)]
    found = []
    for other in others(tables[0].cells, reference, methods):
        both = (other, reference)
        values = [_values(each.cells, both, each.where) for each in tables]
        notes = tuple(dict.fromkeys(note for each in values for note in copies(each, True)))
        own, earlier = (each[other] - each[reference] for each in values)
        found.append(replace(_changed(both, own, earlier, higher_is_better), notes=notes))
    return corrected(found)


def _values(cells: Cells, both: tuple[str, str], where: str | None) -> dict[str, np.ndarray]:
    """(seeds, patients) of each method."""
    seeds = [sorted(method_cells(cells, method, where)) for method in both]
    if seeds[0] != seeds[1] or len(seeds[0]) < FEWEST_SEEDS:
        what = f"'{both[0]}' and '{both[1]}' need the same seeds, {FEWEST_SEEDS} or more"
        raise InputError(what, where, "train both with each of them")
    values, _ = matched(cells, both, dict.fromkeys(both, seeds[0]), False, where)
    if values[both[0]].means.shape[1] < FEWEST:
        raise InputError(f"{values[both[0]].means.shape[1]} patients, a verdict needs {FEWEST}", where)
    return {method: values[method].means for method in both}


def _changed(both: tuple[str, str], own: np.ndarray, earlier: np.ndarray, higher_is_better: bool) -> ChangeVerdict:
    if len(own) != len(earlier):
        what = f"'{both[0]}' has {len(own)} seeds on one test set and {len(earlier)} on the other"
        raise InputError(what, hint="measure the same trained networks on both test sets")
    estimate, error = changed(own, earlier)
    half = float(error.within())
    p = float(2 * error.below(-abs(estimate)))
    sizes = (len(own), own.shape[1], earlier.shape[1])
    low, high = (math.nan, math.nan) if math.isnan(half) else (estimate - half, estimate + half)
    return ChangeVerdict(*both, estimate, low, high, p, p, *sizes, higher_is_better)


def changed(own: np.ndarray, earlier: np.ndarray) -> tuple[Any, Uncertainty]:
    """The change of mean differences (..., seeds, patients) on two test sets, and how certain it is."""
    spreads = [paired_spread(each) for each in (own, earlier)]
    trainings = own.mean(-1) - earlier.mean(-1)
    seeds = trainings.shape[-1]
    total, degrees = trainings.var(-1, ddof=1) / seeds, np.full(trainings.shape[:-1], seeds - 1.0)
    for spread in spreads:
        total, degrees = join(total, degrees, spread.of_patients / spread.patients, spread.patients - 1, JOINED)
    return spreads[0].estimate - spreads[1].estimate, Uncertainty(total, degrees)
