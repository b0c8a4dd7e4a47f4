"""A run's tables in a paper's layout: a row per method, a group of columns per test set, tests as stars.

Everything comes from the run folder, so a table can be made while rows are still missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from medkit.evaluation.comparisons import Comparison
from medkit.evaluation.results import MetricValue, recorded
from medkit.recipe.report_model import WantedTable
from medkit.recipe.values import SEPARATOR
from medkit.reporting.paper_table_captions import caption
from medkit.reporting.paper_table_model import Column, Line, Number, PaperTable
from medkit.reporting.run_results import RunResults
from medkit.reporting.tables import INPUT, TARGET

AVERAGE = "Average"
FAILED, UNFINISHED = "failed", "not finished"


def paper_tables(run: RunResults) -> list[PaperTable]:
    """The tables that the recipe of a run asks for, from what the run has so far."""
    return [paper_table(wanted, run) for wanted in run.tables]


def paper_table(wanted: WantedTable, run: RunResults) -> PaperTable:
    """One table."""
    named = _rows(wanted, run.recipe)
    columns = _columns(wanted, [run.of(stage) for stage in named])
    comparable = _comparable(run.blocks(named))
    compared = run.comparisons(wanted.stage) if comparable else []
    tests = {(c.split, c.metric, c.second): c for c in compared}
    lines = [_with_means(_line(stage, name, columns, run, tests), columns) for stage, name in named.items()]
    if comparable:
        lines = _ranked(lines, columns)
    lines += [_with_means(line, columns) for line in _references(wanted, columns, run, named)]
    table = PaperTable(wanted.title, wanted.slug, wanted.stage, tuple(columns), tuple(lines), wanted.cost)
    return replace(table, caption=tuple(caption(table, run, compared, comparable)))


def _comparable(blocks: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether rows are on the same data. Others (other classes) have no common scale, so none is best or tested."""
    return len({(block["data"], block["unit"]) for block in blocks.values()}) == 1


def _line(
    stage: str,
    name: str,
    columns: Sequence[Column],
    run: RunResults,
    tests: Mapping[tuple[str, str, str], Comparison],
) -> Line:
    cost = run.costs.get(stage) or {}
    status = FAILED if stage in run.failed else "" if stage in run.results else UNFINISHED
    cells = tuple(_number(column, stage, run.of(stage), tests) for column in columns)
    return Line(name, stage, cells, status, cost.get("train_seconds"), cost.get("peak_mb"))


def _rows(wanted: WantedTable, recipe: Mapping[str, Any]) -> dict[str, str]:
    """Full names of stages and what is printed for each, in order."""
    group = [s["name"] for s in recipe["stages"] if s["name"].split(SEPARATOR)[0] == wanted.stage]
    if not wanted.rows:
        return {stage: stage.partition(SEPARATOR)[2] or stage for stage in group}
    full = {label: label if label == wanted.stage else wanted.stage + SEPARATOR + label for label in wanted.rows}
    return {full[label]: printed for label, printed in wanted.rows.items() if full[label] in group}


def _columns(wanted: WantedTable, found: Sequence[Mapping[str, Mapping[str, MetricValue]]]) -> list[Column]:
    there: dict[str, MetricValue] = {}
    for result in found:
        for values in result.values():
            for metric, value in values.items():
                there.setdefault(metric, value)
    splits = wanted.splits or {split: split for result in found for split in result}
    metrics = {recorded(name, there): printed for name, printed in wanted.metrics.items()} or {
        name: name for name in there
    }
    groups = dict(splits)
    if wanted.average and len(splits) > 1:
        groups[""] = AVERAGE
    columns = []
    for split, group in groups.items():
        for metric, label in metrics.items():
            known = there.get(metric)
            unit, up = ("", None) if known is None else (known.unit, known.higher_is_better)
            columns.append(Column(split, metric, group, label, unit, up))
    return columns


def _number(
    column: Column,
    stage: str,
    result: Mapping[str, Mapping[str, MetricValue]],
    tests: Mapping[tuple[str, str, str], Comparison],
) -> Number | None:
    value = result.get(column.split, {}).get(column.metric)
    if value is None or math.isnan(value.value):
        return None
    test = tests.get((column.split, column.metric, stage))
    p = None if test is None or math.isnan(test.p_holm) else test.p_holm
    stars = "" if test is None or p is None else replace(test.test, p=p).stars
    counts = {"n": value.n, "n_empty": value.n_empty, "n_patients": value.people, "seen": value.seen}
    return Number(value.value, value.low, value.high, p=p, stars=stars, counted=value.counted, **counts)


def _with_means(line: Line, columns: Sequence[Column]) -> Line:
    """The last group filled: plain means over the test sets, undefined if any is missing."""
    cells = list(line.cells)
    for i, column in enumerate(columns):
        if column.split:
            continue
        over = [
            c for c, other in zip(line.cells, columns, strict=True) if other.split and other.metric == column.metric
        ]
        known = [cell.value for cell in over if cell is not None]
        seen = sum(cell.seen for cell in over if cell is not None)
        cells[i] = Number(sum(known) / len(known), seen=seen) if known and len(known) == len(over) else None
    return replace(line, cells=tuple(cells))


def _ranked(lines: Sequence[Line], columns: Sequence[Column]) -> list[Line]:
    """Mark best and second best of each column; equal rows are not best, and of two rows none is second."""
    rows = [list(line.cells) for line in lines]
    for i, column in enumerate(columns):
        there = [cell.value for row in rows if (cell := row[i]) is not None]
        values, count = sorted(set(there), reverse=bool(column.up)), len(there)
        for row in rows:
            cell = row[i]
            if cell is None or len(values) < 2:
                continue
            place = values.index(cell.value) + 1
            row[i] = replace(cell, rank=place if place == 1 or (place == 2 and count > 2) else 0)
    return [replace(line, cells=tuple(row)) for line, row in zip(lines, rows, strict=True)]


def _references(
    wanted: WantedTable, columns: Sequence[Column], run: RunResults, named: Mapping[str, str]
) -> list[Line]:
    lines = []
    for key, printed in (wanted.rows or {INPUT: INPUT, TARGET: TARGET}).items():
        if key not in (INPUT, TARGET) or wanted.stage + SEPARATOR + key in named:
            continue
        cells = []
        for column in columns:
            found = [run.of(stage).get(column.split, {}).get(column.metric) for stage in named]
            value = next((v.extras[key] for v in found if v is not None and v.extras.get(key) is not None), None)
            cells.append(None if value is None or math.isnan(value) else Number(value))
        if any(cells):
            lines.append(Line(printed, "", tuple(cells)))
    return lines
