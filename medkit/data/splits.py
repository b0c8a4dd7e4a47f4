"""Splits: which cases belong to training, validation and each test set."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from medkit.data.alike import look_alikes, look_alikes_told
from medkit.data.cases import CaseTable, encoded, fields_of, take, union
from medkit.errors import InputError, did_you_mean, some
from medkit.protocols import Case

COLUMNS = ("id", "patient", "center", "fold", "label")
SHOWN = 8
TRUTHS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}  # as YAML writes them


def select(cases: Sequence[Case], picks: Mapping[str, Any], name: str = "split") -> Sequence[Case]:
    """The cases whose columns equal ``picks`` (a value or a list of values each).

    Columns are ``id patient center fold label`` and any others of the manifest. Text is compared as it is written,
    without surrounding spaces: 8 is neither "08" nor "8.0". Numbers (labels, numeric columns of Parquet) are compared
    as numbers.

    Raises
    ------
    InputError
        if a column does not exist, or no case is left; it says which value looks like the wanted one.
    """
    known = {*COLUMNS, *fields_of(cases)}
    chosen = np.ones(len(cases), bool)
    for column, wanted in picks.items():
        if column not in known:
            hint = did_you_mean(column, known) or f"columns: {', '.join(sorted(known))}"
            raise InputError(f"split '{name}' selects by '{column}', a column that the data do not have", hint=hint)
        codes, values = encoded(cases, column)
        listed = wanted if isinstance(wanted, list) else [wanted]
        # The last is for cells without a value.
        chosen &= np.array([*(any(is_wanted(v, w) for w in listed) for v in values), "" in listed], bool)[codes]
        if not chosen.any():
            hint = _help(column, values, listed) if any(values) else _absent(column, known)
            raise InputError(f"split '{name}' is empty after {column} = {wanted}", hint=hint)
    return take(cases, chosen)


def is_wanted(value: Any, wanted: Any) -> bool:
    """Whether a cell is the value that a recipe asks for."""
    if isinstance(value, str):
        value = value.strip()
        return TRUTHS.get(value) is wanted if isinstance(wanted, bool) else value == str(wanted).strip()
    if isinstance(value, bool | np.bool_) or isinstance(wanted, bool):
        return isinstance(wanted, bool) and isinstance(value, bool | np.bool_) and bool(value) is wanted
    if isinstance(value, int | float | np.number) and isinstance(wanted, int | float):
        return bool(value == wanted)
    return str(value) == str(wanted).strip()


def _help(column: str, values: Sequence[Any], wanted: Sequence[Any]) -> str:
    there = sorted({str(value) for value in values})
    shown = f"values of {column}: {', '.join(there[:SHOWN])}" + (" ..." if len(there) > SHOWN else "")
    alike = [group for group in look_alikes([*there, *(str(value) for value in wanted)]) if len(group) > 1]
    for one in wanted:
        near = next(([t for t in group if t != str(one)] for group in alike if str(one) in group), [])
        if near:
            return f"'{near[0]}' looks like '{one}' but is different text: write \"{near[0]}\" in quotes; {shown}"
    return shown


def _absent(column: str, known: Iterable[str]) -> str:
    """A hint about a column in which no case has a value."""
    near = next((group for group in look_alikes(sorted({*known, column})) if column in group and len(group) > 1), [])
    other = next((name for name in near if name != column), None)
    if other is None:
        return f"no case has a value in '{column}'"
    return f"no case has a value in '{column}', but there is a column '{other}': '{column}: \"{other}\"' in the source"


def tell_look_alikes(cases: Sequence[Case]) -> None:
    """Warn about patients, centres and folds that may be the same, but are written in two ways and so count as two."""
    for column in ("patient", "center", "fold"):
        if told := look_alikes_told([str(value) for value in encoded(cases, column)[1]]):
            warnings.warn(
                f"column '{column}' has values that differ only in spaces, separators, case, zeros or invisible "
                f"characters, and count as different: {told}",
                stacklevel=2,
            )


def check_patients(splits: Mapping[str, Sequence[Case]]) -> None:
    """Refuse splits named train, val and test that share a patient; their names say what they are for.

    For data without a recipe; if stages say what splits are for, :mod:`medkit.runs.seen` checks what they do.

    Raises
    ------
    InputError
        naming the splits and up to five patients.
    """
    named = {name: set(encoded(splits[name], "patient")[1]) for name in ("train", "val", "test") if name in splits}
    for a, b in combinations(named, 2):
        both = sorted(named[a] & named[b])
        if both:
            are = "patient is" if len(both) == 1 else "patients are"
            hint = "results on them would be too optimistic: give each patient one fold"
            raise InputError(f"{len(both)} {are} in both '{a}' and '{b}': {some(both, 5)}", hint=hint)


def check_images(splits: Mapping[str, Sequence[Case]]) -> None:
    """Refuse an image that is listed under two patients in two splits.

    Checks only tables that know where their images are (:class:`medkit.data.cases.CaseTable`).

    Raises
    ------
    InputError
        naming the image, the patients and the splits.
    """
    cases = union([*splits.values()])
    if not isinstance(cases, CaseTable):
        return
    codes, images = encoded(cases, "image")
    if not images:  # a table in which no image occurs twice has no such column
        return
    patients, names = encoded(cases, "patient")
    inside = np.stack([np.isin(cases.rows, part.rows) for part in splits.values() if isinstance(part, CaseTable)], 1)
    whole = np.column_stack([codes, patients, inside])[codes >= 0]
    found = np.unique(whole, axis=0)
    for code in np.unique(found[1:, 0][found[1:, 0] == found[:-1, 0]]).tolist():
        one, *others = found[found[:, 0] == code]
        for other in others:
            if one[1] != other[1] and (one[2:] != other[2:]).any():
                said = []
                for row in (one, other):
                    there = [repr(name) for name, chosen in zip(splits, row[2:], strict=True) if chosen]
                    said.append(f"of '{names[row[1]]}' in {', '.join(there)}")
                what = f"one image is listed as that {said[0]} and {said[1]}"
                raise InputError(what, images[code], "list each image under one patient")


def assign_folds(
    patients: Sequence[str], labels: Sequence[Any], shares: Mapping[str, float], seed: int = 0
) -> list[str]:
    """A fold for each row, the same for all rows of a patient, stratified by the patient's largest label.

    Patients without a label (None or nan) in any row are a stratum of their own.

    Parameters
    ----------
    patients, labels:
        One entry per row.
    shares:
        Fold to share, such as ``{"train": 0.7, "val": 0.1, "test": 0.2}``; they add up to 1.
    """
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise InputError(f"the shares of the folds add up to {sum(shares.values()):g}, not 1")
    strata: dict[str, list[str]] = {}
    largest: dict[str, Any] = {}
    for patient, label in zip(patients, labels, strict=True):
        known = [one for one in (largest.get(patient), label) if one is not None and one == one]
        largest[patient] = max(known) if known else None
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
