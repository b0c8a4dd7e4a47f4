"""Labels of cases: what a data block says they are, and what the cells that hold them mean."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medkit.errors import InputError, did_you_mean

KINDS = ("one_of", "any_of", "ordered", "unit")
MOST = 1000
NONE = "none"
"""A cell of ``any_of`` that says that a case has none of the classes; an empty one says that nobody looked."""
SEPARATOR = ";"
DECIMAL_COMMA = re.compile(r"-?\d+,\d+")


@dataclass(frozen=True)
class Labels:
    """What the labels of a data block's cases are.

    Attributes
    ----------
    kind:
        ``one_of`` several classes, ``any_of`` several (none or more of them), one of ``ordered`` classes (grades), or
        a measurement in a ``unit``.
    names:
        Of the classes, in order; none for a measurement.
    cells:
        What stands for each class in a table, or the name of its column.
    unit:
        Of a measurement.
    column:
        The field of cases that holds them; for ``any_of`` there may be one per class, each 0 or 1. None: the source's
        own labels, numbers of classes from 0 on.
    """

    kind: str
    names: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    unit: str = ""
    column: str | tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def outputs(self) -> int:
        """How many numbers a network outputs for a case."""
        return {"unit": 1, "ordered": len(self) - 1}.get(self.kind, len(self))

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields that are read."""
        return (self.column,) if isinstance(self.column, str) else self.column or ()

    @property
    def in_words(self) -> str:
        if self.kind == "unit":
            return f"a measurement in {self.unit}"
        return {"one_of": "one of", "any_of": "any of", "ordered": "one of the ordered"}[self.kind] + (
            f" {len(self)} classes"
        )

    # -- cells ---------------------------------------------------------------------------------------------------------

    def number(self, cell: Any) -> float:
        """The number of a cell's class, or its measurement; nan for an empty one.

        Raises
        ------
        InputError
            if it names no class, or is not a number.
        """
        text = as_text(cell)
        if text == "":
            return math.nan
        if self.kind == "unit":
            return _finite(text)
        return float(self._class(text))

    def flags(self, cell: Any) -> np.ndarray:
        """(K,) which of ``any_of`` a cell names, as 0 and 1; all nan for an empty one.

        Raises
        ------
        InputError
            if it names what is not a class.
        """
        text = as_text(cell)
        if text == "":
            return np.full(len(self), np.nan)
        found = np.zeros(len(self))
        if text == NONE and NONE not in self.cells:
            return found
        for part in text.split(SEPARATOR):
            if (part := part.strip()) == "":
                raise InputError(
                    f"'{text}' names a class without a name", hint=f"names are separated by one '{SEPARATOR}'"
                )
            found[self._class(part)] = 1.0
        return found

    @staticmethod
    def flag(cell: Any) -> float:
        """0 or 1 from a cell in a column of one class; nan for an empty one."""
        text = as_text(cell)
        if text == "":
            return math.nan
        if (found := _finite(text)) not in (0, 1):
            raise InputError(
                f"'{text}' is neither 0 nor 1", hint="1: the class is there, 0: it is not, empty: not known"
            )
        return found

    def _class(self, text: str) -> int:
        """The place of the class that a cell names, by its name or, if no name is a number, by its number."""
        if text in self.cells:
            return self.cells.index(text)
        by_number = self.column is None or not any(_is_number(cell) for cell in self.cells)
        if by_number and _is_number(text):
            number = float(text)
            if number == int(number) and 0 <= number < len(self):
                return int(number)
            what = f"'{text}' is not a class: their numbers go from 0 to {len(self) - 1}"
            raise InputError(what, hint=f"classes: {', '.join(self.cells)}")
        hint = did_you_mean(text, self.cells) or f"it has: {', '.join(self.cells)}"
        raise InputError(
            f"'{text}' is not a class of the data block", hint=f"{hint}; add it to '{self.kind}' of its labels"
        )

    # -- in words ------------------------------------------------------------------------------------------------------

    def told(self, value: Any) -> str:
        """A label as text: the name of its class, names of ``any_of`` (``?`` after one that is not known), or the
        number; nothing for one that is not known."""
        if self.kind == "any_of":
            flags = np.asarray(value, float)
            if np.isnan(flags).all():
                return ""
            said = [n if f == 1 else f"{n}?" for n, f in zip(self.names, flags.tolist(), strict=True) if f != 0]
            return SEPARATOR.join(said) or NONE
        number = float(value)
        if math.isnan(number):
            return ""
        if self.kind == "unit":
            return as_text(np.float32(value))  # the fewest digits that give the number back, as labels are float32
        return self.names[int(number)]

    def said(self, probabilities: np.ndarray) -> Any:
        """What probabilities (...,K) of classes say: the number of the likeliest class (...); for ordered ones that of
        the median, the first at which at least half is reached; for ``any_of`` (...,K) which are above 0.5."""
        if self.kind == "any_of":
            return probabilities > 0.5
        if self.kind == "one_of":
            return probabilities.argmax(-1)
        above = 1 - np.cumsum(probabilities, -1)[..., :-1]  # the probability of more than each class but the last
        return (above > 0.5).sum(-1)

    def plain(self) -> dict[str, Any]:
        """As a recipe writes them."""
        names: Any = list(self.names)
        if self.cells != self.names:
            names = dict(zip(self.cells, self.names, strict=True))
        found: dict[str, Any] = {self.kind: self.unit if self.kind == "unit" else names}
        if self.column is not None:
            found["column"] = self.column if isinstance(self.column, str) else list(self.column)
        return found


def labels_of(said: Any) -> Labels:
    """The labels that a recipe declares: a mapping with one of ``KINDS``, and ``column``.

    Raises
    ------
    InputError
        for anything else, names that occur twice, and too few or too many classes.
    """
    example = "{one_of: [NAME, NAME], column: COLUMN}"
    if not isinstance(said, Mapping):
        raise InputError("labels are a mapping", hint=f"such as {example}")
    if unknown := [key for key in said if key not in (*KINDS, "column")]:
        hint = did_you_mean(str(unknown[0]), (*KINDS, "column")) or f"known: {', '.join(KINDS)}, column"
        raise InputError(f"labels have no '{unknown[0]}'", hint=hint)
    kinds = [kind for kind in KINDS if kind in said]
    if len(kinds) != 1:
        given = f"they say {' and '.join(kinds)}" if kinds else "they say neither"
        raise InputError(
            f"labels are one_of or any_of several classes, ordered ones, or have a unit; {given}", hint=example
        )
    kind, column = kinds[0], said.get("column")
    if isinstance(column, Sequence) and not isinstance(column, str):
        column = tuple(map(str, column))
    elif column is not None and not isinstance(column, str):
        raise InputError("'column' is the name of a column, or a list of those of any_of", hint=example)
    if kind == "unit":
        if not isinstance(said[kind], str) or not said[kind].strip():
            raise InputError(
                "'unit' is what measurements are in", hint="{unit: months, column: age}; '1' if there is none"
            )
        labels = Labels(kind, unit=said[kind].strip(), column=column)
    else:
        cells, names = _names(kind, said[kind])
        labels = Labels(kind, names, cells, column=column)
    if isinstance(labels.column, tuple) and (kind != "any_of" or len(labels.column) != len(labels)):
        what = f"{len(labels.column)} columns are given for {labels.in_words}"
        raise InputError(what, hint="any_of K classes may have K columns of 0 and 1; anything else has one column")
    if kind == "any_of" and column is None:
        raise InputError("any_of several classes needs its column", hint="'column: NAME', or a list with one per class")
    return labels


def _names(kind: str, said: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What stands for the classes in cells, and their names."""
    if isinstance(said, Mapping):
        cells, names = tuple(as_text(cell) for cell in said), tuple(as_text(name) for name in said.values())
    elif isinstance(said, Sequence) and not isinstance(said, str):
        cells = names = tuple(as_text(name) for name in said)
    else:
        raise InputError(f"'{kind}' is a list of names, or a mapping of what stands in the table to names")
    least = 1 if kind == "any_of" else 2
    if not least <= len(names) <= MOST:
        raise InputError(f"{len(names)} classes are given, but '{kind}' has {least} to {MOST}")
    for what in (cells, names):
        if twice := [name for i, name in enumerate(what) if name in what[:i]]:
            raise InputError(f"two classes are named '{twice[0]}'")
    if kind == "any_of" and (holding := [cell for cell in cells if SEPARATOR in cell]):
        raise InputError(f"'{holding[0]}' contains a '{SEPARATOR}', which separates the classes of a cell")
    return cells, names


def as_text(cell: Any) -> str:
    """A cell as text without spaces around it; whole numbers without a point, nothing for an empty one."""
    if cell is None or (isinstance(cell, float | np.floating) and math.isnan(cell)):
        return ""
    if isinstance(cell, bool | np.bool_):
        return str(int(cell))
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()


def as_number(value: Any) -> float:
    """A finite number, even if written as text; nan for anything else, including names such as ``1_000``."""
    if isinstance(value, str) and "_" in value:  # which Python ignores between digits
        return math.nan
    try:
        found = float(value)
    except (TypeError, ValueError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def _is_number(text: str) -> bool:
    return not math.isnan(as_number(text))


def _finite(text: str) -> float:
    if not _is_number(text):
        comma = DECIMAL_COMMA.fullmatch(text)
        hint = f"write '{text.replace(',', '.')}'" if comma else "an empty cell says that it is not known"
        raise InputError(f"'{text}' is not a finite number", hint=hint)
    return float(text)
