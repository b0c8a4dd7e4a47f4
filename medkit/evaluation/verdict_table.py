"""The table that a verdict is made from: a value for each method, seed, patient and, if there are several, case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medkit.data.manifest import numbers, read_manifest, texts
from medkit.errors import InputError, did_you_mean, some

COLUMNS = ("method", "seed", "patient", "value")
CASE = "case"
SEEN = "seen_in_training"

Cells = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Values by method, seed, patient and case; the case is "" if the table does not name cases."""


@dataclass(frozen=True)
class CellTable:
    """``cells``, the file that they are ``where`` they are from one, and lines on patients ``seen`` in training."""

    cells: Cells
    where: str | None
    seen: dict[str, list[str]]


@dataclass(frozen=True)
class Values:
    """One method: ``means`` (seeds, patients), each over the patient's cases."""

    method: str
    seeds: tuple[str, ...]
    patients: tuple[str, ...]
    means: np.ndarray


def read_cells(table: Any) -> CellTable:
    """All values of a table.

    Parameters
    ----------
    table:
        The path of a CSV or Parquet file, a pandas ``DataFrame``, a pyarrow ``Table``, a mapping of columns, or rows
        that are mappings; with the columns ``method``, ``seed``, ``patient`` and ``value``, and ``case`` if
        patients have several. Seeds are names: whole numbers or texts. A column ``seen_in_training`` says in words
        which patients of a row's test set were seen in training, and by what. Other columns are ignored.

    Raises
    ------
    InputError
        for a column that is missing, a cell without a name, two values of the same case.
    """
    where = str(table) if isinstance(table, str | Path) else None
    columns = _columns(table)
    known = list(columns.column_names)
    if not len(columns):
        raise InputError("the table has no rows", where)
    for name in COLUMNS:
        if name not in known:
            near = did_you_mean(name, known) or f"it has {', '.join(known)}"
            raise InputError(f"the table has no column '{name}'", where, near)
    names = [texts(columns, name, where or "the table") for name in (*COLUMNS[:3], CASE)]
    for name, column in zip((*COLUMNS[:3], CASE), names, strict=True):
        if column is not None and column.null_count:
            row = column.is_null().index(True).as_py()
            raise InputError(f"'{name}' is empty in row {row + 1}", where, "every value needs its names")
    values, wrong = numbers(columns, "value", where or "the table")
    if wrong:
        hint = (
            "numbers have a decimal point and no unit (0.85); where a value is undefined, give one or leave its case "
            "out for all methods and seeds"
        )
        raise InputError(f"'value' of row {wrong[0][0] + 1} is not a finite number: '{wrong[0][1]}'", where, hint)
    cases = names[3].to_pylist() if names[3] is not None else [""] * len(values)
    found: Cells = {}
    keys = zip(*(column.to_pylist() for column in names[:3]), cases, strict=True)
    for (method, seed, patient, case), value in zip(keys, values.tolist(), strict=True):
        cell = found.setdefault(method, {}).setdefault(seed, {}).setdefault(patient, {})
        if case in cell:
            raise _twice(method, seed, patient, case, where)
        cell[case] = value
    return CellTable(found, where, _seen(columns, where or "the table"))


def _seen(columns: Any, where: str) -> dict[str, list[str]]:
    """What the table says about patients seen in training, by method."""
    methods, told = (texts(columns, name, where) for name in ("method", SEEN))
    found: dict[str, dict[str, None]] = {}
    for method, line in zip(methods.to_pylist(), told.to_pylist(), strict=True) if told is not None else ():
        if line:
            found.setdefault(method, {})[line] = None
    return {method: list(lines) for method, lines in found.items()}


def _columns(table: Any) -> Any:
    """Any kind of table as a ``pyarrow.Table``."""
    import pyarrow

    if isinstance(table, str | Path):
        return read_manifest(Path(table), "table")
    if isinstance(table, pyarrow.Table):
        return table
    try:
        if hasattr(table, "to_dict") and hasattr(table, "columns"):
            return pyarrow.Table.from_pandas(table, preserve_index=False)
        if isinstance(table, Mapping):
            return pyarrow.table(dict(table))
        return pyarrow.Table.from_pylist([dict(row) for row in table])
    except (pyarrow.ArrowException, ValueError, TypeError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        hint = "a path, a DataFrame, a mapping of columns, or rows; names of one type per column"
        raise InputError(f"this is not a table ({first})", hint=hint) from error


def _twice(method: str, seed: str, patient: str, case: str, where: str | None) -> InputError:
    if case:
        what = f"'{method}' has two values of case '{case}' of patient '{patient}' under seed {seed}"
        return InputError(what, where, "keep one of them; a table holds one metric of one test set")
    what = f"'{method}' has two values of patient '{patient}' under seed {seed}"
    hint = f"keep one of them, or name the cases of a patient in a column '{CASE}': their mean is taken"
    return InputError(what, where, hint)


def method_cells(cells: Cells, method: str, where: str | None) -> dict[str, dict[str, dict[str, float]]]:
    """The values of one method, all of them numbers.

    Raises
    ------
    InputError
        for a method that is not there, with the nearest name, and for values that are not numbers.
    """
    if method not in cells:
        near = did_you_mean(method, cells) or f"the methods are {some(list(cells), 12)}"
        raise InputError(f"there is no method '{method}'", where, near)
    found = cells[method]
    lacking = [
        f"patient '{patient}' under seed {seed}"
        for seed, patients in found.items()
        for patient, cases in patients.items()
        if any(value != value for value in cases.values())
    ]
    if lacking:
        hint = "give a number for what is not defined, or leave the patient out of all methods and seeds"
        raise InputError(f"'{method}' has no number for {some(lacking)}", where, hint)
    return found


def others(cells: Cells, reference: str, methods: Sequence[str] = ()) -> list[str]:
    """The methods that are compared with a reference: ``methods``, or all but the reference."""
    return list(dict.fromkeys(methods)) or [method for method in cells if method != reference]


def matched(
    cells: Cells, methods: Sequence[str], seeds: Mapping[str, Sequence[str]], common: bool, where: str | None
) -> tuple[dict[str, Values], str]:
    """The values of some methods and seeds on the same cases, and what was left out, in words; "" if nothing was.

    Returns ``{method: Values}``. A case counts if every method has it under every seed.

    Raises
    ------
    InputError
        naming the patients or cases that not all have, unless ``common``; and if nothing is left.
    """
    having = {(m, s): {(p, c) for p, cases in cells[m][s].items() for c in cases} for m in methods for s in seeds[m]}
    everything, everywhere = set.union(*having.values()), set.intersection(*having.values())
    if everything != everywhere and not common:
        raise _unmatched(methods, having, everything, where)
    if not everywhere:
        hint = "leave out the seeds, or the methods, that lack most of them"
        raise InputError(f"no case has a value of {_quoted(methods)} under every seed", where, hint)
    kept: dict[str, list[str]] = {}
    for patient, case in sorted(everywhere):
        kept.setdefault(patient, []).append(case)
    found = {}
    for method in methods:
        rows = [
            [float(np.mean([cells[method][seed][p][c] for c in cases])) for p, cases in kept.items()]
            for seed in seeds[method]
        ]
        found[method] = Values(method, tuple(seeds[method]), tuple(kept), np.array(rows))
    patients = len({patient for patient, _ in everything}) - len(kept)
    cases = sum(patient in kept for patient, _ in everything - everywhere)
    counts = [f"{n} {what}" for n, what in ((patients, "patients"), (cases, "cases of other patients")) if n]
    return found, " and ".join(counts)


def _unmatched(
    methods: Sequence[str], having: Mapping[tuple[str, str], set[Any]], everything: set[Any], where: str | None
) -> InputError:
    hint = "compare what all have: --common (common=True)"
    of = {m: {p for (method, _), has in having.items() if method == m for p, _ in has} for m in methods}
    for method in methods:
        if lacking := sorted({patient for patient, _ in everything} - of[method]):
            others = _quoted([m for m in methods if m != method])
            return InputError(f"'{method}' has no patient {some(lacking)}, which {others} has", where, hint)
    for (method, seed), has in having.items():
        patients = {patient for patient, _ in has}
        if lacking := sorted(of[method] - patients):
            return InputError(f"'{method}' has no patient {some(lacking)} under seed {seed}", where, hint)
    for (method, seed), has in having.items():
        if cases := sorted(everything - has):
            named = some([f"'{case}' of patient '{patient}'" for patient, case in cases])
            return InputError(f"'{method}' has no case {named} under seed {seed}", where, hint)
    raise AssertionError("all have the same cases")


def _quoted(names: Sequence[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)
