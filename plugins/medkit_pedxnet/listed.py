"""Cases with one image file each."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

from medkit.api import Case, InputError, Record
from medkit.data.cases import CaseTable, fields_of
from medkit.data.files import stamp, system
from medkit.data.whereabouts import distinct, whereabouts

SHOWN = 8


class Listed:
    """Cases with their files; ``where`` names the list they come from in errors.

    Parameters
    ----------
    columns, fields:
        Of a :class:`medkit.data.cases.CaseTable`.
    files:
        (n,) Arrow array, the path of each case's image.

    Raises
    ------
    InputError
        if there are no cases, two with the same name or one without a patient, or files that do not exist.
    """

    def __init__(self, where: str, columns: Mapping[str, Any], fields: Mapping[str, Any], files: Any) -> None:
        names, patients = columns["id"], columns["patient"]
        if not len(names):
            raise InputError("no images are listed", where)
        without = patients.null_count + names.null_count
        if without:
            raise InputError(f"{without} rows have no patient or no image", where, "every row needs both")
        if not distinct(names):
            twice = next(name for name, count in Counter(names.to_pylist()).items() if count > 1)
            raise InputError(f"case '{twice}' is listed twice", where, "give each image one row, or an id of its own")
        there, places = whereabouts(files)
        missing = np.flatnonzero(~there)
        if len(missing):
            shown = ", ".join(files[int(row)].as_py() for row in missing[:SHOWN])
            more = ", ..." if len(missing) > SHOWN else ""
            what = f"{len(missing)} of {len(files)} images do not exist: {shown}{more}"
            raise InputError(what, where, "correct their paths, or leave their rows out")
        places = files if places is None else places
        image = {} if distinct(places) else {"image": places}
        self.cases, self.files = CaseTable({**columns, **image}, fields), files

    @classmethod
    def of(cls, where: str, cases: Sequence[Case], files: Sequence[Path]) -> Listed:
        """From cases that have been made one by one."""
        texts = {
            name: pyarrow.array([getattr(case, name).strip() for case in cases], pyarrow.large_string())
            for name in ("id", "patient", "center", "fold")
        }
        labels = np.array([np.nan if case.label is None else case.label for case in cases])
        fields = {name: [case.fields.get(name) for case in cases] for name in fields_of(cases)}
        paths = pyarrow.array([os.path.abspath(file) for file in files], pyarrow.large_string())
        return cls(where, {**texts, "label": labels}, fields, paths)

    def file(self, case: Case) -> str:
        """The path of a case's image."""
        return system(self.files[self.cases.row_of(case.id)].as_py())

    def load(self, case: Case) -> Record:
        from medkit.data.io import read_volume

        return Record(read_volume(self.file(case)))

    def identity(self, case: Case) -> str:
        return stamp(self.file(case))


class ListedSource(ABC):
    """A source whose cases and files are listed once, when first asked for."""

    @property
    @abstractmethod
    def listed(self) -> Listed:
        """The list."""

    def cases(self) -> Sequence[Case]:
        return self.listed.cases

    def load(self, case: Case) -> Record:
        return self.listed.load(case)

    def identity(self, case: Case) -> str:
        return self.listed.identity(case)
