"""What the columns of a manifest hold as labels: numbers, names of classes, or several classes a case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medkit import names
from medkit.data.manifest import as_number, numbers
from medkit.errors import InputError
from medkit.protocols.labels import NONE, SEPARATOR, Labels, as_text

MOST = 50
"""Different words that a column of classes may have."""


@dataclass(frozen=True)
class LabelKind:
    """Labels as they were found.

    Attributes
    ----------
    labels:
        What a data block would declare; None of plain numbers, which may be classes or measurements.
    values:
        (n,) numbers, those of classes from 0 on, or (n,K) flags; nan where there is none.
    """

    labels: Labels | None
    values: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes; none of plain numbers."""
        return () if self.labels is None else self.labels.names


def label_kind(table: Any, columns: Sequence[str], path: Path) -> LabelKind:
    """Look at the columns of labels: one, or one of 0 and 1 for each of several classes.

    Raises
    ------
    InputError
        for a number that is not finite among numbers, too many different words, or other cells than 0 and 1 in one of
        several columns.
    """
    if len(columns) > 1:
        labels = Labels("any_of", tuple(map(_name, columns)), tuple(columns), column=tuple(columns))
        each = [_read(table, name, labels.flag, path) for name in columns]
        return LabelKind(_distinct(labels, path), np.stack(each, 1))
    column = columns[0]
    cells = [as_text(cell) for cell in table[column].to_pylist()]
    words = sorted({text for text in cells if text})
    if all(not np.isnan(as_number(word)) or word.lower() in ("nan", "inf", "-inf") for word in words):
        values, wrong = numbers(table, column, str(path))
        if wrong:
            where = f"{path}:{wrong[0][0] + 2}"
            raise InputError(f"{column}: '{wrong[0][1]}' is no finite number", where, "an empty cell says none")
        return LabelKind(None, values)
    kind = "any_of" if any(SEPARATOR in word for word in words) else "one_of"
    if kind == "any_of":
        words = sorted({part.strip() for word in words for part in word.split(SEPARATOR)} - {"", NONE})
    if len(words) > MOST:
        what = f"'{column}' has {len(words)} different values, such as '{words[0]}'"
        raise InputError(what, str(path), "classes by name, or a number; name another column")
    labels = _distinct(Labels(kind, tuple(map(_name, words)), tuple(words), column=column), path)
    return LabelKind(labels, _read(table, column, labels.flags if kind == "any_of" else labels.number, path))


def label_columns(label: str, names: Sequence[str]) -> list[str]:
    """The columns that ``label`` names: one, or several that commas separate."""
    return [label] if label in names else [name.strip() for name in label.split(",")]


def numbered(values: np.ndarray, column: str) -> Labels:
    """Labels of classes that stand in a column as whole numbers."""
    words = tuple(f"{value:g}" for value in np.unique(values[~np.isnan(values)]).tolist())
    return Labels("one_of", words, words, column=column)


def _read(table: Any, column: str, read: Any, path: Path) -> np.ndarray:
    found = []
    for row, cell in enumerate(table[column].to_pylist()):
        try:
            found.append(read(cell))
        except InputError as error:
            raise InputError(f"{column}: {error.what}", f"{path}:{row + 2}", error.hint) from error
    return np.array(found, float)


def _name(word: str) -> str:
    """A word as a name that keys may have."""
    if names.fault(word) is None:
        return word
    made = "_".join(re.findall(r"[\w@+-]+", word))
    return made.encode()[: names.LONGEST].decode(errors="ignore") or "class"


def _distinct(labels: Labels, path: Path) -> Labels:
    """Refuse words that would have one name."""
    for i, name in enumerate(labels.names):
        if name in labels.names[:i]:
            first, second = labels.cells[labels.names.index(name)], labels.cells[i]
            what = f"'{first}' and '{second}' would both be named '{name}'"
            raise InputError(what, str(path), "write one of them otherwise")
    return labels
