"""Writing a tree as a manifest, with lists of its series' files and the table of what is left out."""

from __future__ import annotations

import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from medkit.data.layouts import check_new_manifest, write_listing, write_manifest
from medkit.data.tree_table import COLUMNS, Choices, Gathered, LeftOut, gather, of_patients
from medkit.data.whole import whole_file
from medkit.errors import InputError


class Joined(Protocol):
    """Anything that adds columns to the cases of a tree."""

    def join(self, found: Gathered, left_out: LeftOut) -> list[str]:
        """Add columns to the rows, and return messages for the user."""
        ...


@dataclass
class Written:
    """What was written, and messages about it."""

    rows: list[dict[str, Any]]
    told: list[str]
    files: int
    left_out: Counter[str]
    left_out_path: Path


def write(
    root: Path,
    out: Path,
    choices: Choices,
    *,
    labels: Joined | None = None,
    lists: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Written:
    """Write the manifest of a tree, completely or not at all.

    Parameters
    ----------
    labels:
        Adds columns to the cases, such as :class:`medkit.data.tree_labels.Labels`.
    lists:
        Folder for the file lists of series that share a folder with others; default: beside ``out``.

    Raises
    ------
    InputError
        as :func:`medkit.data.tree_table.gather`; also if an output exists, or ``out`` does not name a manifest.
    """
    out = Path(out)
    check_new_manifest(out)
    lists = Path(lists) if lists is not None else out.with_name(f"{out.stem}_series")
    told = out.with_name(f"{out.stem}.left_out.csv")
    for path in (out, lists):
        if path.exists():
            raise InputError("the output exists already", str(path), "name a new one: nothing is overwritten")
    made = lists.with_name(f".{uuid.uuid4().hex[:8]}.{lists.name}")

    def listing(name: str, files: list[Path]) -> Path:
        write_listing(files, made / f"{name}.txt")
        return lists.resolve() / f"{name}.txt"

    try:
        with whole_file(told) as temporary:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                left_out = LeftOut(file, Path(root).resolve())
                found = gather(root, left_out, listing, choices, progress)
                if labels is not None:
                    found.told += labels.join(found, left_out)
                found.told = of_patients(found) + found.told
            if made.is_dir():
                os.rename(made, lists)
            try:
                write_manifest(_table(found), out)
            except BaseException:
                shutil.rmtree(lists, ignore_errors=True)
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return Written(found.rows, found.told, found.files, left_out.counts, told)


def _table(found: Gathered) -> Any:
    import pandas

    more = dict.fromkeys(name for row in found.rows for name in row if name not in COLUMNS)
    table = pandas.DataFrame(found.rows, columns=[*COLUMNS[:3], *more, *COLUMNS[3:]])
    for name in ("slices", "rows", "columns"):
        table[name] = table[name].astype("Int64")
    return table.dropna(axis=1, how="all")
