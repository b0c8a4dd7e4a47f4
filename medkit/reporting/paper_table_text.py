"""Tables in the forms they are read in: a terminal, Markdown, CSV, JSON and HTML."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from medkit.records import encoded, write_atomically
from medkit.reporting.paper_table_model import Column, Line, Number, PaperTable
from medkit.reporting.tables import SEEN_MARK, number

DASH = "–"
MARKS = {1: "¹", 2: "²"}
PLACES = "¹ best, ² second best of a column."
WHERE = ("row", "stage", "status", "split", "metric", "unit")
TIME, MEMORY = "training time", "peak memory, MiB"


def write_tables(folder: Path, tables: Sequence[PaperTable]) -> list[Path]:
    """``tables/SLUG.md`` and ``.csv`` in a run folder, each whole or not at all."""
    written = []
    for table in tables:
        (folder / "tables").mkdir(exist_ok=True)
        for ending, text in (("md", as_markdown(table)), ("csv", as_csv(table))):
            path = folder / "tables" / f"{table.slug}.{ending}"
            write_atomically(path, encoded(text))
            written.append(path)
    return written


def as_text(
    table: PaperTable, group: Sequence[int] | None = None, cost: bool = True
) -> tuple[list[str], list[list[str]]]:
    """Columns and rows for a terminal; ``group`` selects columns, whose heads then do not name the test set."""
    chosen = range(len(table.columns)) if group is None else group
    heads = [_head(table, table.columns[i], "\n") if group is None else table.columns[i].head for i in chosen]
    rows = []
    for line in table.rows:
        cells = [_plain(line.cells[i]) for i in chosen]
        rows.append([_name(line), *cells, *(_cost(line) if table.cost and cost else [])])
    return ["", *heads, *([TIME, MEMORY] if table.cost and cost else [])], rows


def caption_text(table: PaperTable) -> list[str]:
    """The caption for plain text, with the meaning of ¹ and ² if they occur."""
    return [*table.caption, *([PLACES] if _marked(table) else [])]


def as_markdown(table: PaperTable) -> str:
    """A table with its title and caption; the best of a column is bold, the second best in italics."""
    heads = ["", *(_head(table, column, " ") for column in table.columns)]
    lines = []
    for line in table.rows:
        cells = []
        for cell in line.cells:
            text = _value(cell).replace("*", "\\*")
            rank = 0 if cell is None else cell.rank
            text = f"**{text}**" if rank == 1 else f"_{text}_" if rank == 2 else text
            cells.append(f"{text} {_interval(cell)}".strip())
        lines.append([_name(line), *cells, *(_cost(line) if table.cost else [])])
    if table.cost:
        heads += [TIME, MEMORY]
    rows = markdown_lines(heads, lines)
    notes = [text.replace("*", "\\*") for text in table.caption]
    if _marked(table):
        notes.append("Bold: best of a column; italics: second best.")
    return f"**{table.title}**\n\n" + "\n".join(rows) + "\n\n" + "  \n".join(notes) + "\n"


def markdown_lines(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> list[str]:
    """The lines of a Markdown table; with ``numbers``, all columns but the first are right-aligned."""
    rule = ["---", *["---:" if numbers else "---"] * (len(heads) - 1)]
    return ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in (heads, rule, *rows)]


def as_csv(table: PaperTable) -> str:
    """One line per number, with all that is known about it; time and memory are metrics without a test set."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    counts = ["n", "n_patients", "n_empty"]
    writer.writerow([*WHERE, "value", "low", "high", *counts, "p_holm", "rank", "seen"])
    for line in table.rows:
        start = [_harmless(text) for text in (line.name, line.stage, line.status or "done")]
        for column, cell in zip(table.columns, line.cells, strict=True):
            what = [column.split or "average", column.metric, column.unit]
            writer.writerow([*start, *what, *(_fields(cell))])
        if table.cost and not line.reference:
            for metric, unit, value in (("train_seconds", "s", line.seconds), ("peak_mb", "MiB", line.peak_mb)):
                writer.writerow([*start, "", metric, unit, "" if value is None else value, *[""] * 8])
    return text.getvalue()


def _harmless(text: str) -> str:
    """Text that no spreadsheet takes for a formula. Nothing reads ``tables/`` back, so names may change."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _fields(cell: Number | None) -> list[Any]:
    if cell is None:
        return [""] * 9
    low, high = ("" if math.isnan(value) else f"{value:.6g}" for value in (cell.low, cell.high))
    counts = [cell.n, cell.n_patients or "", cell.n_empty] if cell.n else [""] * 3
    p = "" if cell.p is None else f"{cell.p:.6g}"
    return [f"{cell.value:.6g}", low, high, *counts, p, cell.rank or "", cell.seen or ""]


def as_json(table: PaperTable) -> dict[str, Any]:
    """The table as plain data: each row with its cells, undefined numbers as None."""
    rows = []
    for line in table.rows:
        cells = [_json(column, cell) for column, cell in zip(table.columns, line.cells, strict=True)]
        row: dict[str, Any] = {"name": line.name, "stage": line.stage or None, "status": line.status or "done"}
        if table.cost:
            row |= {"train_seconds": line.seconds, "peak_mb": line.peak_mb}
        rows.append({**row, "cells": cells})
    return {"title": table.title, "stage": table.stage, "rows": rows, "caption": list(table.caption)}


def _json(column: Column, cell: Number | None) -> Mapping[str, Any]:
    where = {"split": column.split or "average", "metric": column.metric}
    if cell is None:
        return {**where, "value": None}
    low, high = (None if math.isnan(value) else value for value in (cell.low, cell.high))
    return {
        **where,
        "value": cell.value,
        "low": low,
        "high": high,
        "n": cell.n,
        "n_patients": cell.n_patients,
        "p_holm": cell.p,
        "rank": cell.rank,
        "seen": cell.seen,
    }


def as_html(table: PaperTable) -> str:
    """A part of the report's page, escaped."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("medkit.reporting").joinpath("table.html").read_text(encoding="utf-8"))
    return template.render(
        table=table,
        groups=table.groups(),
        marked=_marked(table),
        value=_value,
        interval=_interval,
        cost=_cost,
        names=(TIME, MEMORY),
    )


def duration(seconds: float) -> str:
    """``0.4 s``, ``42 s``, ``3 min 42 s``, ``2 h 05 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _head(table: PaperTable, column: Column, between: str) -> str:
    return column.head if len(table.groups()) == 1 else f"{column.group}{between}{column.head}"


def _name(line: Line) -> str:
    return f"{line.name} ({line.status})" if line.status else line.name


def _value(cell: Number | None) -> str:
    return DASH if cell is None else number(cell.value) + cell.stars + (SEEN_MARK if cell.seen else "")


def _interval(cell: Number | None) -> str:
    """The interval; ``[–]`` where a measured number has none."""
    if cell is None or math.isnan(cell.low):
        return f"[{DASH}]" if cell is not None and cell.n else ""
    return f"[{number(cell.low)}, {number(cell.high)}]"


def _plain(cell: Number | None) -> str:
    mark = "" if cell is None else MARKS.get(cell.rank, "")
    return f"{_value(cell)}{mark} {_interval(cell)}".strip()


def _cost(line: Line) -> list[str]:
    if line.reference:
        return ["", ""]
    seconds = DASH if line.seconds is None else duration(line.seconds)
    return [seconds, DASH if line.peak_mb is None else f"{line.peak_mb:,.0f}"]


def _marked(table: PaperTable) -> bool:
    return any(cell is not None and cell.rank for line in table.rows for cell in line.cells)
