"""Splits: which cases belong to training, validation and each test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medkit.errors import InputError, did_you_mean
from medkit.protocols import Case

COLUMNS = ("id", "patient", "center", "fold", "label")


def select(cases: Sequence[Case], picks: Mapping[str, Any], name: str = "split") -> list[Case]:
    """The cases whose columns equal ``picks`` (a value, or a list of values).

    Columns are ``id patient center fold label`` and the manifest's other ones.

    Raises
    ------
    InputError
        if a column does not exist, or no case is left.
    """
    known = {*COLUMNS, *(key for case in cases for key in case.fields)}
    chosen = list(cases)
    for column, wanted in picks.items():
        if column not in known:
            hint = did_you_mean(column, known) or f"columns: {', '.join(sorted(known))}"
            raise InputError(f"split '{name}' selects by '{column}', which the data do not have", hint=hint)
        values = {_text(value) for value in (wanted if isinstance(wanted, list) else [wanted])}
        chosen = [case for case in chosen if _text(_column(case, column)) in values]
        if not chosen:
            there = sorted({_text(_column(case, column)) for case in cases})
            shown = ", ".join(there[:8]) + (" ..." if len(there) > 8 else "")
            raise InputError(f"split '{name}' is empty after {column} = {wanted}", hint=f"values of {column}: {shown}")
    return chosen


def _column(case: Case, column: str) -> Any:
    return getattr(case, column) if column in COLUMNS else case.fields.get(column, "")


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def assign_folds(
    patients: Sequence[str], labels: Sequence[Any], shares: Mapping[str, float], seed: int = 0
) -> list[str]:
    """A fold for each row such that all rows of a patient share one, stratified by the patient's largest label.

    Parameters
    ----------
    patients, labels:
        One entry a row.
    shares:
        Fold to share, such as ``{"train": 0.7, "val": 0.1, "test": 0.2}``; they add up to 1.
    """
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise InputError(f"shares add up to {sum(shares.values()):g}, not 1")
    strata: dict[str, list[str]] = {}
    largest: dict[str, Any] = {}
    for patient, label in zip(patients, labels, strict=True):
        largest[patient] = label if patient not in largest else max(largest[patient], label)
    for patient, label in largest.items():
        strata.setdefault(str(label), []).append(patient)
    rng = np.random.default_rng(seed)
    folds: dict[str, str] = {}
    edges = np.cumsum(list(shares.values()))
    for label in sorted(strata):
        members = sorted(strata[label])
        for i, k in enumerate(rng.permutation(len(members))):
            position = int(np.searchsorted(edges, (i + 0.5) / len(members)))
            folds[members[k]] = list(shares)[min(position, len(shares) - 1)]
    return [folds[patient] for patient in patients]
