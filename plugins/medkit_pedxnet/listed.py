"""Cases with one image file each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from medkit.api import Case, InputError, Record

SHOWN = 8


class Listed:
    """Cases and their files, gathered by :meth:`add`; ``where`` names the list they come from in errors."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.cases: list[Case] = []
        self.files: dict[str, Path] = {}

    def add(self, case: Case, file: Path) -> None:
        if case.id in self.files:
            raise InputError(f"case '{case.id}' is listed twice", self.where)
        self.cases.append(case)
        self.files[case.id] = file

    def check(self) -> None:
        """Raise :class:`InputError` if there are no cases, or naming files that are not there."""
        if not self.cases:
            raise InputError("no images are listed", self.where)
        missing = [str(file) for file in self.files.values() if not file.exists()]
        if missing:
            more = ", ..." if len(missing) > SHOWN else ""
            what = f"{len(missing)} of {len(self.files)} images are not there: {', '.join(missing[:SHOWN])}{more}"
            raise InputError(what, self.where)

    def load(self, case: Case) -> Record:
        from medkit.data.io import read_volume

        return Record(read_volume(self.files[case.id]))

    def identity(self, case: Case) -> str:
        from medkit.data.files import stamp

        return stamp(self.files[case.id])


class ListedSource(ABC):
    """A source whose cases and files are listed once, when they are first asked for."""

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
