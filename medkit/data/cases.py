"""Cases as columns: a million rows stay in Arrow, and a :class:`Case` is made only on request.

Code that needs a column of many cases (patients of a split, labels for a loader) calls :func:`column` or
:func:`encoded`, which take any sequence of cases, instead of looping over objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np

from medkit.errors import InputError
from medkit.protocols import Case

TEXTS = ("id", "patient", "center", "fold")


class _Columns:
    """The columns themselves, shared by all selections of a table, with a cache of what is computed from them."""

    def __init__(self, columns: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
        self.arrays = {name: _array(values) for name, values in columns.items()}
        self.fields = {name: _array(values) for name, values in fields.items()}
        self.codes: dict[str, tuple[np.ndarray, list[Any]]] = {}
        self.index: tuple[np.ndarray, np.ndarray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "codes": {}, "index": None}  # hashes of strings differ from process to process

    def array(self, name: str) -> Any:
        return self.arrays[name] if name in self.arrays else self.fields.get(name)

    def encoded(self, name: str) -> tuple[np.ndarray, list[Any]]:
        if name not in self.codes:
            array = distinct_values(self.array(name), name)
            codes = array.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
            self.codes[name] = codes, array.dictionary.to_pylist()
        return self.codes[name]


def distinct_values(array: Any, name: str, where: str | None = None, each: str = "value") -> Any:
    """An Arrow array as a ``pyarrow.DictionaryArray``: its distinct values, and which of them each row has.

    Raises
    ------
    InputError
        for cells that hold several values (lists); it calls the column ``name``, its file ``where`` and what a cell
        should hold ``each``.
    """
    import pyarrow

    if pyarrow.types.is_dictionary(array.type):
        return array
    try:
        return array.dictionary_encode()
    except pyarrow.ArrowException as error:
        what = f"the column '{name}' holds {array.type} values, not one {each} per row"
        raise InputError(what, where, "write one value per cell") from error


class CaseTable(Sequence[Case]):
    """A sequence of cases kept as columns; slices and :meth:`take` select rows without copying columns.

    Parameters
    ----------
    columns:
        ``id`` and ``patient``, and optionally ``center``, ``fold`` (text), ``label`` (numbers, nan or null for none)
        and ``image``, where each image really is, which shows whether one image is in two splits.
    fields:
        Further columns by name.
    rows:
        (n,) the rows of the columns that this table selects; default: all.
    """

    def __init__(
        self, columns: Mapping[str, Any], fields: Mapping[str, Any] | None = None, rows: np.ndarray | None = None
    ) -> None:
        self._columns = _Columns(columns, fields or {})
        self.rows = np.arange(len(self._columns.arrays["id"]), dtype=np.int32) if rows is None else rows

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the further columns."""
        return tuple(self._columns.fields)

    @property
    def size(self) -> int:
        """How many rows the columns have; this table may be a selection of them."""
        return len(self._columns.arrays["id"])

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Case: ...

    @overload
    def __getitem__(self, index: slice) -> CaseTable: ...

    def __getitem__(self, index: int | slice) -> Case | CaseTable:
        if isinstance(index, slice):
            return self._with(self.rows[index])
        return self.case(int(self.rows[index]))

    def take(self, positions: np.ndarray | Sequence[int]) -> CaseTable:
        """The cases at ``positions``, or those for which a boolean mask is true."""
        return self._with(self.rows[np.asarray(positions)])

    def case(self, row: int) -> Case:
        """The case in a row of the columns."""
        arrays = self._columns.arrays
        label = arrays["label"][row].as_py() if "label" in arrays else None
        center, fold = (arrays[name][row].as_py() or "" if name in arrays else "" for name in ("center", "fold"))
        fields = {name: array[row].as_py() for name, array in self._columns.fields.items()}
        known = label is not None and label == label
        return Case(
            arrays["id"][row].as_py(), arrays["patient"][row].as_py(), center, fold, label if known else None, fields
        )

    def shares(self, other: Sequence[Case]) -> bool:
        """Whether both are selections of the same table."""
        return isinstance(other, CaseTable) and self._columns is other._columns

    def row_of(self, case_id: str) -> int:
        """The row of the columns with the case named ``case_id``; raises KeyError if there is none."""
        columns = self._columns
        if columns.index is None:
            # A dictionary of a million names takes 150 MB, their sorted hashes 16 MB.
            names = columns.arrays["id"]
            hashes = np.fromiter((hash(name.as_py()) for name in names), np.int64, len(names))
            order = np.argsort(hashes, kind="stable")
            columns.index = hashes[order], order
        hashes, order = columns.index
        wanted = hash(case_id)
        for k in range(int(np.searchsorted(hashes, wanted)), len(hashes)):
            if hashes[k] != wanted:
                break
            if columns.arrays["id"][int(order[k])].as_py() == case_id:
                return int(order[k])
        raise KeyError(case_id)

    def _with(self, rows: np.ndarray) -> CaseTable:
        new = CaseTable.__new__(CaseTable)
        new._columns, new.rows = self._columns, rows
        return new


def column(cases: Sequence[Case], name: str) -> np.ndarray:
    """One column of many cases: ``label`` as (n,) float64, nan if missing; any other as (n,) objects, None if missing.

    Columns are ``id patient center fold label``, further fields by name, and, for a :class:`CaseTable`, ``image``.
    """
    if name == "label":
        if isinstance(cases, CaseTable):
            array = cases._columns.array("label")
            if array is None:
                return np.full(len(cases), np.nan)
            return array.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)[cases.rows]
        return np.array([np.nan if case.label is None else case.label for case in cases], np.float64)
    codes, values = encoded(cases, name)
    table = np.empty(len(values) + 1, object)  # the last, None, is for missing values
    table[:-1] = values
    return table[codes]


def encoded(cases: Sequence[Case], name: str) -> tuple[np.ndarray, list[Any]]:
    """One column as (n,) int32 codes, -1 for a missing value, and the distinct values that they stand for.

    Only values that occur are listed. A missing centre or fold is the text ``""``.
    """
    if not isinstance(cases, CaseTable):
        return _distinct(
            [getattr(case, name) if name in (*TEXTS, "label") else case.fields.get(name) for case in cases]
        )
    if cases._columns.array(name) is None:
        return (np.zeros(len(cases), np.int32), [""]) if name in TEXTS else (np.full(len(cases), -1, np.int32), [])
    codes, values = cases._columns.encoded(name)
    codes = codes[cases.rows]
    counts = np.bincount(codes + 1, minlength=len(values) + 1)
    if name in ("center", "fold") and counts[0]:
        values, codes = ([*values, ""], np.where(codes < 0, len(values), codes).astype(np.int32))
        counts = np.bincount(codes + 1, minlength=len(values) + 1)
    there = counts[1:] > 0
    if there.all():
        return codes, values
    shorter = np.full(len(values) + 1, -1, np.int32)  # the last one stays -1, for -1
    shorter[:-1][there] = np.arange(there.sum(), dtype=np.int32)
    return shorter[codes], [values[i] for i in np.flatnonzero(there)]


def fields_of(cases: Sequence[Case]) -> list[str]:
    """Names of the further columns that any of the cases has."""
    if isinstance(cases, CaseTable):
        return list(cases.fields)
    return list(dict.fromkeys(name for case in cases for name in case.fields))


def take(cases: Sequence[Case], chosen: np.ndarray) -> Sequence[Case]:
    """The cases for which ``chosen`` (n,) is true: a table if ``cases`` is one, else a list."""
    if isinstance(cases, CaseTable):
        return cases if chosen.all() else cases.take(chosen)
    return [cases[i] for i in np.flatnonzero(chosen).tolist()]


def union(parts: Sequence[Sequence[Case]]) -> Sequence[Case]:
    """Every case of several selections once, in order of first appearance."""
    first = parts[0] if parts else []
    if isinstance(first, CaseTable) and all(
        isinstance(part, CaseTable) and part._columns is first._columns for part in parts
    ):
        rows = np.concatenate([part.rows for part in parts if isinstance(part, CaseTable)])
        _, positions = np.unique(rows, return_index=True)
        return first._with(rows[np.sort(positions)])
    return list({case.id: case for part in parts for case in part}.values())


def _distinct(values: list[Any]) -> tuple[np.ndarray, list[Any]]:
    numbers: dict[Any, int] = {}
    codes = np.empty(len(values), np.int32)
    for i, value in enumerate(values):
        missing = value is None or (isinstance(value, float) and value != value)
        # 1, 1.0 and True are the same dictionary key, but three values of a column.
        codes[i] = -1 if missing else numbers.setdefault((type(value), value), len(numbers))
    return codes, [value for _, value in numbers]


def _array(values: Any) -> Any:
    """An Arrow array in one chunk, with missing numbers (nan) as null."""
    import pyarrow
    import pyarrow.compute as compute

    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return pyarrow.array(values, from_pandas=True)
    if not isinstance(values, pyarrow.Array | pyarrow.ChunkedArray):
        return pyarrow.array(values, from_pandas=True)
    if pyarrow.types.is_floating(values.type):
        values = compute.if_else(compute.is_nan(values), None, values)
    if isinstance(values, pyarrow.ChunkedArray):
        if pyarrow.types.is_dictionary(values.type):
            values = values.unify_dictionaries()
        elif pyarrow.types.is_string(values.type):
            values = values.cast(pyarrow.large_string())  # a chunk of string holds at most 2 GB
        values = values.combine_chunks()
    return values
