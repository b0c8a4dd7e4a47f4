"""The declared labels of a data set's cases, read once from their fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from medkit.data.cases import CaseTable, column, encoded, fields_of
from medkit.errors import InputError, Problems, did_you_mean
from medkit.protocols import Case
from medkit.protocols.labels import Labels

SHOWN = 10  # problems reported at once


class LabelColumn:
    """Labels of all cases of a source: (n,) numbers or, for ``any_of``, (n,K) flags; nan where unknown.

    Parameters
    ----------
    place:
        Where a case is listed, for errors: file and row.

    Raises
    ------
    Problems
        for each cell that is not a label: file, row, column and value.
    """

    def __init__(self, labels: Labels, cases: Sequence[Case], place: Callable[[Case], str]) -> None:
        self.labels = labels
        self._cases = cases
        self._check_columns()
        self.values = self._read(place)
        self._table = cases if isinstance(cases, CaseTable) else None
        self._rows = {} if self._table is not None else {case.id: row for row, case in enumerate(cases)}

    def of(self, cases: Sequence[Case]) -> np.ndarray:
        """Labels of some of the cases: (n,) or (n,K)."""
        if self._table is not None and isinstance(cases, CaseTable) and cases.shares(self._table):
            return self.values[cases.rows]
        return self.values[[self._row(case) for case in cases]]

    def of_case(self, case: Case) -> np.ndarray:
        """The label of one case: () or (K,) float32."""
        found: np.ndarray = self.values[self._row(case)]
        return np.asarray(found, np.float32)

    def known(self, cases: Sequence[Case]) -> np.ndarray:
        """(n,) booleans: which cases have a label, for ``any_of`` at least one."""
        values = self.of(cases)
        return ~(np.isnan(values).all(1) if values.ndim == 2 else np.isnan(values))

    def strata(self, cases: Sequence[Case]) -> np.ndarray:
        """(n,) numbers of the strata that are drawn evenly: the label itself; for ``any_of`` the number, from 1, of the
        rarest class that a case has, 0 for none."""
        values = self.of(cases)
        return rarest(values) if values.ndim == 2 else values

    def count(self, cases: Sequence[Case]) -> dict[str, int]:
        """How many cases have each class."""
        values = self.of(cases)
        if values.ndim == 2:
            counts = np.nansum(values, 0).astype(int).tolist()
        else:
            counts = [int((values == number).sum()) for number in range(len(self.labels))]
        return dict(zip(self.labels.names, counts, strict=True))

    def missing(self, cases: Sequence[Case]) -> dict[str, int]:
        """For ``any_of``: for how many of the cases that have any label each class is unknown."""
        values = self.of(cases)
        if values.ndim == 1:
            return {}
        counts = np.isnan(values[~np.isnan(values).all(1)]).sum(0).tolist()
        return {name: count for name, count in zip(self.labels.names, counts, strict=True) if count}

    def _row(self, case: Case) -> int:
        return self._table.row_of(case.id) if self._table is not None else self._rows[case.id]

    def _check_columns(self) -> None:
        there = fields_of(self._cases)
        for name in self.labels.columns:
            if name not in there:
                hint = did_you_mean(name, there) or f"they have: {', '.join(there) or 'none'}"
                what = f"cases have no field '{name}', which 'labels' names as its column"
                hint += "; a column that the source uses itself ('label: NAME') is not a field: remove it there"
                raise InputError(what, "labels.column", hint)

    def _read(self, place: Callable[[Case], str]) -> np.ndarray:
        labels = self.labels
        if not labels.columns:
            return self._column("label", column(self._cases, "label"), labels.number, place)
        if isinstance(labels.column, tuple):
            each = [self._encoded(name, labels.flag, place) for name in labels.column]
            return np.stack(each, 1).astype(np.float32)
        read = labels.flags if labels.kind == "any_of" else labels.number
        return self._encoded(labels.columns[0], read, place).astype(np.float32)

    def _encoded(self, name: str, read: Callable[[Any], Any], place: Callable[[Case], str]) -> np.ndarray:
        """Read a column, each distinct cell once."""
        codes, cells = encoded(self._cases, name)
        return self._read_cells(name, codes, [*cells, None], read, place)  # the last is for code -1

    def _column(
        self, name: str, values: np.ndarray, read: Callable[[Any], Any], place: Callable[[Case], str]
    ) -> np.ndarray:
        cells, codes = np.unique(values, return_inverse=True)
        return self._read_cells(name, codes, cells.tolist(), read, place).astype(np.float32)

    def _read_cells(
        self, name: str, codes: np.ndarray, cells: Sequence[Any], read: Callable[[Any], Any], place: Any
    ) -> np.ndarray:
        found, wrong = [], {}
        for code, cell in enumerate(cells):
            try:
                found.append(read(cell))
            except InputError as error:
                found.append(read(None))
                wrong[code] = error
        if wrong:
            rows = np.flatnonzero(np.isin(codes, list(wrong)))[:SHOWN].tolist()
            told = [(row, wrong[int(codes[row])]) for row in rows]
            raise Problems([InputError(f"{name}: {e.what}", place(self._cases[row]), e.hint) for row, e in told])
        return np.asarray(found)[codes]


def rarest(flags: np.ndarray) -> np.ndarray:
    """(n,) for flags (n,K): the number, from 1, of the rarest class that a row has; 0 if it has none, nan if nothing
    is known."""
    counts = np.nansum(flags, 0)
    order = np.argsort(counts, kind="stable")
    has = np.nan_to_num(flags[:, order]) > 0
    found = np.where(has.any(1), order[has.argmax(1)] + 1.0, 0.0)
    return np.where(np.isnan(flags).all(1), np.nan, found)


def check_present(counts: Mapping[str, int], where: str, split: str) -> None:
    """Refuse a training split that has no case of a class."""
    if absent := [name for name, count in counts.items() if not count]:
        what = f"no case of '{split}' has {' or '.join(absent)}, so nothing can be learned about it"
        hint = "'medkit data split --stratify' puts every class in every fold; or leave the class out of 'labels'"
        raise InputError(what, where, hint)
