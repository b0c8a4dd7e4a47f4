"""A table in a paper's layout, as data: columns, rows and cells."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A metric on a test set, with its printed names; ``split`` is empty for the mean over the sets."""

    split: str
    metric: str
    group: str
    label: str
    unit: str = ""
    up: bool | None = None

    @property
    def head(self) -> str:
        """Name, unit, and an arrow for the better direction."""
        arrow = "" if self.up is None else " ↑" if self.up else " ↓"
        return f"{self.label}{f', {self.unit}' if self.unit else ''}{arrow}"


@dataclass(frozen=True)
class Number:
    """A cell; ``p`` (after Holm) compares with the stage itself, ``rank`` is 1 best, 2 second best.

    ``n`` cases or slices, as ``counted`` says, of ``n_patients`` patients; ``seen`` patients of the test set were seen
    in training.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    n_empty: int = 0
    p: float | None = None
    stars: str = ""
    rank: int = 0
    seen: int = 0
    n_patients: int = 0
    counted: str = "cases"


@dataclass(frozen=True)
class Line:
    """A row: a stage or variant, or a ``reference`` (the input, the target), which has no stage."""

    name: str
    stage: str
    cells: tuple[Number | None, ...]
    status: str = ""
    seconds: float | None = None
    peak_mb: float | None = None

    @property
    def reference(self) -> bool:
        return not self.stage


@dataclass(frozen=True)
class PaperTable:
    """A table ready to be printed; ``caption`` has what a reader needs to know, one or two sentences per line."""

    title: str
    slug: str
    stage: str
    columns: tuple[Column, ...]
    rows: tuple[Line, ...]
    cost: bool
    caption: tuple[str, ...] = ()

    def groups(self) -> list[tuple[str, list[int]]]:
        """Names of column groups with the numbers of their columns; one unnamed group for a single test set."""
        found: dict[str, list[int]] = {}
        for i, column in enumerate(self.columns):
            found.setdefault(column.group, []).append(i)
        return [("", indices) for indices in found.values()] if len(found) == 1 else list(found.items())
