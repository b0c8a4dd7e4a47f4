"""Rows of ``cases.csv`` for the report's table: numbers with seven digits, and no names except the case's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from medkit.evaluation.same_cases import IMAGE, TRUTH
from medkit.reporting.page import inline_json
from medkit.reporting.run_results import RunResults

MOST_BYTES = 2_000_000
HIDDEN = ("patient", IMAGE, TRUTH)  # names, and digests that no one reads
FIRST = ("stage", "split", "case", "center")


@dataclass(frozen=True)
class ShownCases:
    """The table's ``data``, its ``counts`` in words, and what was left out."""

    data: Any
    counts: str
    left_out: str


def shown_cases(run: RunResults, name: str) -> ShownCases | None:
    """The lines of all evaluations, in order, as far as there is room; None if there are none."""
    evaluations = [
        (stage, split, rows) for stage in run.results for split in run.of(stage)
        if (rows := run.cases.of(stage, split))
    ]  # fmt: skip
    if not evaluations:
        return None
    columns = [*FIRST, *(c for c in run.cases.columns([e[0] for e in evaluations]) if c not in (*FIRST, *HIDDEN))]
    kept: list[list[str]] = []
    left: list[str] = []
    room = MOST_BYTES
    for stage, split, rows in evaluations:
        cells = [[_short(row.get(column, "")) for column in columns] for row in rows]
        size = len(json.dumps(cells).encode())
        if size > room:
            left.append(f"{stage} on {split} ({len(rows)})")
            continue
        room -= size
        kept += cells
    patients = len({row["patient"] for _, _, rows in evaluations for row in rows})
    counts = f"{len(kept)} rows of {patients} patients, one for each stage, test set and case (or slice)."
    left_out = f"Left out for lack of room: rows of {', '.join(left)}." if left else ""
    data = {"columns": columns, "rows": kept, "file": f"{name}-cases.csv"}
    return ShownCases(inline_json(data), counts, left_out)


def _short(text: str) -> str:
    """A number with seven digits; any other text itself."""
    if not any(mark in text for mark in ".e"):
        return text
    try:
        return f"{float(text):.7g}"
    except ValueError:
        return text
