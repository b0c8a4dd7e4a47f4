"""A table of labels, joined to the cases of a tree by exact text; what does not match is reported, on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medkit.data.alike import look_alikes
from medkit.data.manifest import read_manifest, texts
from medkit.data.tree_table import COLUMNS, TAKEN, Gathered, LeftOut
from medkit.errors import InputError, did_you_mean

KEYS = ("case", "file", "name", "id", "series", "study", "accession", "patient", "folder")
"""What may identify a case, the most specific first; ``file`` is its name with the suffix, ``name`` without."""
NAMES = ("id", "case", "image", "name", "file", "series", "study", "accession", "patient")
PATHS = ("mask", "target")
SHOWN = 3


@dataclass(frozen=True)
class Labels:
    """A table of labels.

    Attributes
    ----------
    column:
        The column of ids; default: ``id``, or another usual name, or the first.
    by:
        What the ids name: ``case``, ``file``, ``name`` of file or folder, ``series``, ``study``, ``accession``,
        ``patient`` or the first ``folder``. Default: whichever matches the most ids.
    """

    path: Path
    column: str | None = None
    by: str | None = None

    def join(self, found: Gathered, left_out: LeftOut) -> list[str]:
        """Add the table's columns to the cases; see :func:`join`."""
        return join(found, read_manifest(Path(self.path), "table of labels"), left_out, self)


def join(found: Gathered, table: Any, left_out: LeftOut, labels: Labels) -> list[str]:
    """Add a table's columns to the cases, and say by what they were joined.

    Parameters
    ----------
    labels:
        The table's path, and what its ids name.

    Returns
    -------
    list of str
        Messages for the user. Ids without a case go to the table of what is left out.

    Raises
    ------
    InputError
        if an id occurs twice, no id matches, or a column has the name of one of the manifest's own.
    """
    path, column, by = labels.path, labels.column, labels.by
    names = list(table.column_names)
    if column is None:
        lower = {name.strip().lower(): name for name in reversed(names)}
        column = next((lower[name] for name in NAMES if name in lower), names[0])
    if column not in names:
        raise InputError(
            f"the table has no column '{column}'", str(path), did_you_mean(column, names) or _listed(names)
        )
    others = [name for name in names if name != column]
    if not others:
        raise InputError("the table has only one column, so there is nothing to join", str(path))
    for name in others:
        if name in COLUMNS and name != "patient":
            raise InputError(f"the manifest has its own column '{name}'", str(path), "rename it in the table")
    ids = texts(table, column, str(path)).to_pylist()
    rows: dict[str, int] = {}
    for row, text in enumerate(ids):
        if text is None:
            raise InputError(f"no value in '{column}'", f"{path}:{row + 2}", "every row needs its id")
        if text in rows:
            hint = f"it is also in line {rows[text] + 2} of column '{column}'; --id names another column of ids"
            raise InputError(f"'{text}' is listed twice", f"{path}:{row + 2}", hint)
        rows[text] = row
    by = by or _best(found, rows, path)
    if by not in KEYS:
        raise InputError(f"cases are not identified by '{by}'", "--by", did_you_mean(by, KEYS) or _listed(KEYS))
    matched = [rows.get(keys.get(by, "")) for keys in found.keys]
    if not any(row is not None for row in matched):
        raise _nothing(found, ids, path, column)
    columns = {name: table[name].to_pylist() for name in others}
    for case, keys, at in zip(found.rows, found.keys, matched, strict=True):
        for name, values in columns.items():
            value = None if at is None else values[at]
            if name in PATHS and value:
                value = str(Path(path).resolve().parent / str(value).strip())
            if name == "patient":
                if not value:
                    continue
                keys.pop(TAKEN, None)
            case[name] = value
    used = {row for row in matched if row is not None}
    unused = [text for text, row in rows.items() if row not in used]
    for text in unused:
        left_out.add("label", f"{path}:{rows[text] + 2}", f"no case has the {by} '{text}'", images=0)
    without = [keys.get(by) or keys["case"] for keys, at in zip(found.keys, matched, strict=True) if at is None]
    said = [f"labels: '{column}' is the {by} of {len(matched) - len(without)} of {len(matched)} cases"]
    if len(used) < len(matched) - len(without):
        said.append(f"labels: {len(matched) - len(without)} cases share {len(used)} ids")
    if without:
        said.append(f"labels: {len(without)} cases have no row: {_some(without)}{_alike(without, unused)}")
    if unused:
        said.append(f"labels: {len(unused)} ids have no case: {_some(unused)}")
    return said


def _best(found: Gathered, rows: dict[str, int], path: Path) -> str:
    """The key that matches the most ids; refuses a tie between keys that match different cases."""
    matches = {key: [rows.get(keys.get(key, "")) for keys in found.keys] for key in KEYS}
    count = {key: sum(row is not None for row in matched) for key, matched in matches.items()}
    best = max(KEYS, key=lambda key: count[key])
    other = next((key for key in KEYS if count[key] == count[best] > 0 and matches[key] != matches[best]), None)
    if other is not None:
        what = f"as the {best} and as the {other}, ids match equally many cases"
        raise InputError(what, str(path), f"say which they are: --by {best} or --by {other}")
    return best


def _nothing(found: Gathered, ids: list[str], path: Path, column: str) -> InputError:
    examples = {key: next((keys[key] for keys in found.keys if keys.get(key)), None) for key in KEYS}
    there = ", ".join(f"{key} '{value}'" for key, value in examples.items() if value)
    names = [value for keys in found.keys for key in KEYS if (value := keys.get(key))]
    hint = f"cases are identified by: {there}{_alike(names, ids)}"
    return InputError(f"no id in '{column}' (such as '{ids[0]}') matches a case", str(path), hint)


def _alike(some: list[str], others: list[str]) -> str:
    """A remark on the first name that looks like one of ``others`` but is different text."""
    for group in look_alikes([*some, *others]):
        pair = [next((name for name in group if name in names), None) for names in (set(some), set(others))]
        if all(pair):
            return f"; '{pair[0]}' looks like '{pair[1]}' but is different text"
    return ""


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _listed(names: Any) -> str:
    return f"there are: {', '.join(names)}"
