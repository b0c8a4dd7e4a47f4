"""Would it win again? What patients' values over several trainings say about the difference between two methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from medkit.errors import InputError, some
from medkit.evaluation.bootstrap import FEW, FEWEST
from medkit.evaluation.verdict_copies import copies
from medkit.evaluation.verdict_power import smallest_difference
from medkit.evaluation.verdict_result import Verdict, corrected, marked
from medkit.evaluation.verdict_table import Cells, matched, method_cells, others, read_cells
from medkit.evaluation.verdict_variance import Spread, paired_spread, shares, unpaired_spread

__all__ = ["FEWEST_SEEDS", "Verdict", "verdict", "verdicts"]

FEWEST_SEEDS = 3
"""With fewer trainings nothing can be said about another one."""
BOUND = 1e100


def verdict(
    table: Any,
    a: str,
    b: str,
    *,
    higher_is_better: bool = True,
    paired: bool | None = None,
    common: bool = False,
) -> Verdict:
    """The verdict on ``a`` against ``b``. What it assumes and how well it holds is in docs/verdicts.md.

    Parameters
    ----------
    table:
        A value of one metric on one test set for each method, seed and patient: the path of a CSV or Parquet file, or
        anything else that :func:`medkit.evaluation.verdict_table.read_cells` takes. Values of a patient's cases are
        averaged, so that every patient counts the same.
    paired:
        Whether the same seed of both methods is one training condition (the same draws of cases, order, initial
        weights), so that differences are taken seed by seed. By default if both have the same seeds; if they have none
        in common their seeds are taken as independent trainings.
    common:
        Compare the patients, cases and (if they share some) seeds that all have, instead of refusing what differs.

    Raises
    ------
    InputError
        with fewer than three seeds or six patients; for methods with different patients, values that are missing or not
        numbers; and if the trainings do not differ at all.
    """
    read = read_cells(table)
    one = _judged(read.cells, read.where, (a, b), higher_is_better, paired, common)
    return marked([one], read.seen)[0]


def verdicts(
    table: Any,
    reference: str,
    methods: Sequence[str] = (),
    *,
    higher_is_better: bool = True,
    paired: bool | None = None,
    common: bool = False,
) -> list[Verdict]:
    """Several methods (by default all others) against one reference: each :func:`verdict`, p corrected by Holm.

    Intervals are not corrected: each holds in 95 % on its own.
    """
    read = read_cells(table)
    cells, where = read.cells, read.where
    method_cells(cells, reference, where)
    compared = others(cells, reference, methods)
    if not compared:
        raise InputError(f"there is no method other than '{reference}'", where)
    found = [_judged(cells, where, (other, reference), higher_is_better, paired, common) for other in compared]
    return marked(corrected(found, comparisons=len(found)), read.seen)


def _judged(
    cells: Cells,
    where: str | None,
    methods: tuple[str, str],
    higher_is_better: bool,
    paired: bool | None,
    common: bool,
) -> Verdict:
    a, b = methods
    if a == b:
        raise InputError(f"'{a}' is compared with itself", where)
    for method in methods:
        method_cells(cells, method, where)
    seeds, paired = _seeds(cells, methods, paired, common, where)
    for method, own in seeds.items():
        if len(own) < FEWEST_SEEDS:
            shared = " in common" if paired and len(own) < len(cells[method]) else ""
            what = (
                f"'{method}' has {len(own)} seed{'s' if len(own) != 1 else ''}{shared}, a verdict needs {FEWEST_SEEDS}"
            )
            hint = f"train it with {FEWEST_SEEDS - len(own)} more; a test over patients holds for these trainings only"
            raise InputError(what, where, hint)
    values, left_out = matched(cells, methods, seeds, common, where)
    of_a, of_b = values[a].means, values[b].means
    patients = of_a.shape[1]
    if patients < FEWEST:
        raise InputError(f"{patients} patients, a verdict needs {FEWEST}", where, "test on more patients")
    largest = float(np.abs([*of_a.flat, *of_b.flat]).max())
    if largest > BOUND or 0 < largest < 1 / BOUND:
        raise InputError(f"values as large as {largest:.1g} cannot be squared", where, "take another unit")
    if not (np.ptp(of_a, axis=0).any() or np.ptp(of_b, axis=0).any()) and (of_a[0] != of_b[0]).any():
        hint = "give the values of separate trainings; deterministic methods are compared by a test over patients"
        raise InputError(f"'{a}' and '{b}' have the same values under every seed", where, hint)
    spread = paired_spread(_differences(of_a, of_b)) if paired else unpaired_spread(of_a, of_b)
    notes = [f"{left_out} that not all have were left out."] if left_out else []
    notes += copies({a: of_a, b: of_b}, paired)
    notes += _notes(methods, spread, paired)
    return _of_spread(methods, spread, higher_is_better, paired, notes)


def _differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a`` minus ``b``; what varies only by rounding does not vary."""
    found = a - b
    return np.full_like(found, found.flat[0]) if np.ptp(found) <= 1e-12 * np.abs([a, b]).max() else found


def _of_spread(
    methods: tuple[str, str], spread: Spread, higher_is_better: bool, paired: bool, notes: Sequence[str]
) -> Verdict:
    estimate, error = float(spread.estimate), spread.of_estimate()
    half, p = float(error.within()), float(2 * error.below(-abs(estimate)))
    above = float(spread.of_new().below(estimate))
    return Verdict(
        *methods,
        estimate=estimate,
        low=estimate - half,
        high=estimate + half,
        p=p,
        p_holm=p,
        probability=above if higher_is_better else 1 - above,
        shares=shares(spread),
        smallest_difference=smallest_difference(spread),
        seeds=spread.seeds[0],
        seeds_b=spread.seeds[-1],
        patients=spread.patients,
        paired=paired,
        higher_is_better=higher_is_better,
        notes=tuple(notes),
        spread=spread,
    )


def _seeds(
    cells: Cells, methods: tuple[str, str], paired: bool | None, common: bool, where: str | None
) -> tuple[dict[str, list[str]], bool]:
    """The seeds of both methods, and whether they are paired."""
    own = {method: sorted(cells[method], key=_numeric) for method in methods}
    a, b = (own[method] for method in methods)
    shared = [seed for seed in a if seed in cells[methods[1]]]
    if paired is False or (paired is None and not shared):
        return own, False
    if len(shared) == len(a) == len(b):
        return own, True
    if shared and common:
        return dict.fromkeys(methods, shared), True
    only = [f"{some([s for s in o if s not in shared])} only of '{m}'" for m, o in own.items() if len(o) > len(shared)]
    hint = (
        "--common (common=True) compares the seeds of both, --unpaired (paired=False) takes all as separate trainings"
    )
    raise InputError(f"'{methods[0]}' and '{methods[1]}' have different seeds: {', '.join(only)}", where, hint)


def _numeric(name: str) -> tuple[float, str]:
    try:
        return float(name), name
    except ValueError:
        return math.inf, name


def _notes(methods: tuple[str, str], spread: Spread, paired: bool) -> list[str]:
    notes = []
    if spread.patients < FEW:
        notes.append(f"Few patients ({spread.patients}): intervals rest on values that are not too skewed.")
    if not paired:
        notes.append(f"Seeds of '{methods[0]}' and '{methods[1]}' are taken as separate trainings.")
    if not float(spread.of_seeds) > 0 and float(spread.of_estimate().variance) > 0:
        notes.append("No variance of seeds was found; few seeds can miss it.")
    return notes
