"""A line for every case: ``cases.csv``, and what each evaluation adds to it.

During a run, every evaluation writes its own file, ``cases/STAGE.SPLIT.csv``; at the end they become one.
A reader finds all of them at any time: such a file takes the place of the lines that an earlier evaluation
of the same stage and split has in ``cases.csv``. So a run with many variants writes each line twice, however many there
are, and one that is killed in between has lost nothing and says nothing twice.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medkit.evaluation import files
from medkit.records import encoded, write_atomically, written_atomically

FILE, PARTS = "cases.csv", "cases"
KEYS = ("stage", "split", "case", "patient", "center")

Row = Mapping[str, Any]
Key = tuple[str, str]


class CaseTable:
    """Lines of evaluated cases by stage and split, in the order of the file; gathered when first asked for."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._from = rows

    @classmethod
    def of_folder(cls, folder: Path) -> CaseTable:
        """The lines of a run folder."""
        return cls(row for path in (folder,) for row in read_cases(path))

    @cached_property
    def _rows(self) -> dict[Key, list[Row]]:
        found: dict[Key, list[Row]] = {}
        for row in self._from:
            found.setdefault(_key(row), []).append(row)
        return found

    def of(self, stage: str, split: str) -> Sequence[Row]:
        """The lines of one evaluation; none if there was none."""
        return self._rows.get((stage, split), ())

    def evaluations(self) -> Sequence[Key]:
        """Stage and split of every evaluation."""
        return list(self._rows)

    def columns(self, stages: Sequence[str]) -> list[str]:
        """Columns in which one of ``stages`` has something."""
        return list(
            dict.fromkeys(
                name
                for (stage, _), rows in self._rows.items()
                if stage in stages
                for row in rows
                for name, value in row.items()
                if value not in (None, "")
            )
        )

    def scores(self, stage: str, split: str, metric: str) -> list[float]:
        """A metric's numbers in an evaluation, without cases that have none."""
        return [float(row[metric]) for row in self.of(stage, split) if row.get(metric)]


def numeral(row: Row, name: str) -> float | None:
    """The number in a column of a row; None of an empty cell, of one without a finite number, or without the column."""
    try:
        found = float("nan" if row.get(name) in (None, "") else row[name])
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def read_cases(folder: Path) -> list[dict[str, Any]]:
    """All lines of a run folder, all values as text; "" where an evaluation does not have a column."""
    parts = _parts(folder)
    again = {_key_of(path) for path in parts}
    rows = [row for row in files.read_rows(folder / FILE, KEYS) if _key(row) not in again]
    rows += [row for path in parts for row in files.read_rows(path, KEYS)]
    blank = dict.fromkeys((name for row in rows for name in row), "")
    return [blank | row for row in rows]


def evaluations(folder: Path) -> set[Key]:
    """Stage and split of every evaluation with lines in a run folder; the lines are not held in memory."""
    tables = [path for path in (folder / FILE, *_parts(folder)) if path.is_file()]
    return {_key(row) for path in tables for row in files.rows_of(path, KEYS)}


def write_cases(folder: Path, stage: str, split: str, rows: Sequence[Row]) -> None:
    """Write the lines of one evaluation, whole or not at all, in place of any that were there.

    Numbers are written in full: tests are computed from them. So are names, which are read back and joined on; a name
    that a spreadsheet would take for a formula is not changed here (only in ``tables/``, which nothing reads).
    """
    columns = list(dict.fromkeys([*KEYS, *(key for row in rows for key in row)]))
    text = _text([dict(zip(columns, columns, strict=True)), *rows], columns)
    (folder / PARTS).mkdir(exist_ok=True)
    write_atomically(folder / PARTS / f"{stage}.{split}.csv", encoded(text))


def merge_cases(folder: Path) -> None:
    """Make one ``cases.csv`` out of everything there is, in one pass over it; doing it twice changes nothing."""
    parts = _parts(folder)
    if not parts:
        return
    again = {_key_of(path) for path in parts}
    tables = [path for path in (folder / FILE, *parts) if path.is_file()]
    columns = list(dict.fromkeys([*KEYS, *(name for path in tables for name in files.read_head(path))]))
    with written_atomically(folder / FILE) as file:
        text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for path in tables:
            gone = again if path == folder / FILE else ()
            writer.writerows(row for row in files.rows_of(path, KEYS) if _key(row) not in gone)
        text.detach()
    for path in parts:
        path.unlink()
    with suppress(OSError):  # a writer that was killed may have left half a file there
        (folder / PARTS).rmdir()


def _parts(folder: Path) -> list[Path]:
    """The files of evaluations that are not in ``cases.csv`` yet, in the order of ``results.json``."""
    results = folder / "results.json"
    known = files.read_json(results) if results.is_file() else {}
    place = {f"{stage}.{split}.csv": i for i, (stage, split) in enumerate((a, b) for a in known for b in known[a])}
    paths = sorted((folder / PARTS).glob("*.csv"))
    return sorted(paths, key=lambda path: place.get(path.name, len(place)))


def _key_of(path: Path) -> Key | None:
    """Stage and split of an evaluation's own file."""
    return next((_key(row) for row in files.rows_of(path, KEYS)), None)


def _key(row: Row) -> Key:
    return row["stage"], row["split"]


def _text(rows: Iterable[Row], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    for row in rows:
        writer.writerow({k: repr(float(v)) if isinstance(v, (float, np.floating)) else v for k, v in row.items()})
    return text.getvalue()
