"""Which columns a manifest has to have: those that its source needs, and optional ones that the source names itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medkit.data.files import system
from medkit.data.manifest import column_names
from medkit.errors import InputError, did_you_mean

OPTIONAL = ("mask", "target", "center", "fold")
"""Arguments that name columns which a manifest may lack, unless the source gives them names of its own."""


def require(names: Iterable[str | None], table: Any, where: str) -> None:
    """Refuse a manifest that lacks one of the columns ``names``; None among them stands for none.

    Raises
    ------
    InputError
        naming the column, the manifest (``where``) and the columns that there are.
    """
    for name in names:
        if name is not None and name not in table.column_names:
            raise InputError(f"the manifest has no column '{name}'", where, _instead(name, table))


def check_optional(named: Mapping[str, Any], defaults: Mapping[str, Any], table: Any, where: str, root: str) -> None:
    """Refuse a manifest that lacks an optional column, but was surely meant to have it: the source names the column,
    or a column of files has almost its name.

    Parameters
    ----------
    named, defaults:
        The columns that the source's optional arguments name, and those that they name by default.
    root:
        Folder to which relative paths in cells are relative.

    Raises
    ------
    InputError
        naming the column and the manifest (``where``).
    """
    for key, name in named.items():
        if not isinstance(name, str) or name in table.column_names:
            continue
        if name != defaults[key]:
            what = f"the manifest has no column '{name}', which the source names as '{key}'"
            raise InputError(what, where, _instead(name, table))
        near = next((other for other in table.column_names if other.strip().casefold() == name), None)
        if near is None or key not in ("mask", "target"):
            continue
        cell = next((cell for cell in table[near].to_pylist() if cell), None)
        if isinstance(cell, str) and Path(root, system(cell.strip())).exists():
            what = f"the column '{near}' holds files, but is not named '{name}'"
            raise InputError(what, where, f"rename it, or give '{key}: \"{near}\"' in the source")


def of_another(arguments: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The arguments of a source for another manifest, without those that name optional columns which it lacks."""
    there = column_names(path)
    return {
        key: value
        for key, value in arguments.items()
        if key not in OPTIONAL or not isinstance(value, str) or value in there
    }


def _instead(name: str, table: Any) -> str:
    """Which columns there are, for one that is missing."""
    return did_you_mean(name, table.column_names) or f"columns: {', '.join(table.column_names)}"
