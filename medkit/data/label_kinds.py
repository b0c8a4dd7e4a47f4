"""What kind of labels a manifest's columns hold: numbers, names of classes, or several classes per case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medkit import names
from medkit.data.manifest import as_number, numbers, refuse_decimal_commas
from medkit.errors import InputError
from medkit.protocols.labels import NONE, SEPARATOR, Labels, as_text

MOST = 50
"""Most distinct values that a column of classes may have."""


@dataclass(frozen=True)
class LabelKind:
    """Labels found in a manifest.

    Attributes
    ----------
    labels:
        What a data block would declare; None for plain numbers, which may be classes or measurements.
    values:
        (n,) numbers, counted from 0 for classes, or (n,K) flags; nan where there is none.
    """

    labels: Labels | None
    values: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes; none for plain numbers."""
        return () if self.labels is None else self.labels.names


def label_kind(table: Any, columns: Sequence[str], path: Path) -> LabelKind:
    """Inspect the label columns: one, or one of 0 and 1 for each of several classes.

    Raises
    ------
    InputError
        for a non-finite value among numbers, too many distinct words, or anything but 0 and 1 in one of several
        columns.
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
            raise InputError(f"{column}: '{wrong[0][1]}' is not a finite number", where, "leave the cell empty")
        return LabelKind(None, values)
    refuse_decimal_commas(words, column, str(path))
    kind = "any_of" if any(SEPARATOR in word for word in words) else "one_of"
    if kind == "any_of":
        words = sorted({part.strip() for word in words for part in word.split(SEPARATOR)} - {"", NONE})
    if len(words) > MOST:
        what = f"'{column}' has {len(words)} different values, such as '{words[0]}'"
        raise InputError(what, str(path), "name a column of classes or of numbers")
    labels = _distinct(Labels(kind, tuple(map(_name, words)), tuple(words), column=column), path)
    return LabelKind(labels, _read(table, column, labels.flags if kind == "any_of" else labels.number, path))


def label_columns(label: str, names: Sequence[str]) -> list[str]:
    """The columns that ``label`` names: one, or several separated by commas."""
    return [label] if label in names else [name.strip() for name in label.split(",")]


def numbered(values: np.ndarray, column: str) -> Labels:
    """Labels of classes that a column holds as integers."""
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
    """A word made into a valid name of a key."""
    if names.fault(word) is None:
        return word
    made = "_".join(re.findall(r"[\w@+-]+", word))
    return made.encode()[: names.LONGEST].decode(errors="ignore") or "class"


def _distinct(labels: Labels, path: Path) -> Labels:
    """Refuse words that would get the same name."""
    for i, name in enumerate(labels.names):
        if name in labels.names[:i]:
            first, second = labels.cells[labels.names.index(name)], labels.cells[i]
            what = f"'{first}' and '{second}' would both be named '{name}'"
            raise InputError(what, str(path), "spell one of them differently")
    return labels
