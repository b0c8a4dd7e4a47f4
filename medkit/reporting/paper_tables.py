"""A run's tables in the shape of a paper's: a row a method, a group of columns a test set, tests as stars.

Everything comes from the run folder, so a table can be made while rows are still missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medkit.evaluation import files
from medkit.evaluation.comparisons import Comparison, compare_variants
from medkit.evaluation.evaluate import MetricValue, read_cases, read_results
from medkit.evaluation.results import recorded
from medkit.recipe.model import SEPARATOR, TableLayout
from medkit.reporting.paper_table_captions import caption
from medkit.reporting.paper_table_model import Column, LaidOut, Line, Number
from medkit.reporting.tables import INPUT, TARGET, Results
from medkit.runs.cost import read_costs
from medkit.runs.folder import RunFolder
from medkit.runs.seen import banners

AVERAGE = "Average"
FAILED, UNFINISHED = "failed", "not finished"


def laid_out(folder: Path) -> list[LaidOut]:
    """The tables that the recipe of a run asks for, from what the run has so far."""
    recipe = files.read_recipe(folder)
    tables = (recipe.get("report") or {}).get("tables") or []
    layouts = files.guarded(folder / "recipe.yaml", lambda: [TableLayout(**plain) for plain in tables])
    if not layouts:
        return []
    opened = RunFolder(folder)
    results: Results = read_results(folder) if (folder / "results.json").is_file() else {}
    cases = read_cases(folder)
    notices = opened.read_json("environment.json", {}).get("notices", [])
    failed = opened.read_json("state.json", {}).get("failed", {})
    costs = read_costs(opened)
    return [
        lay_out(layout, recipe, results, cases, failed, costs, [*banners(folder, layout.stage), *notices])
        for layout in layouts
    ]


def lay_out(
    layout: TableLayout,
    recipe: Mapping[str, Any],
    results: Results,
    cases: Sequence[Mapping[str, Any]],
    failed: Mapping[str, str],
    costs: Mapping[str, Mapping[str, Any]],
    notices: Sequence[str] = (),
) -> LaidOut:
    """One table.

    Parameters
    ----------
    recipe:
        The resolved recipe as plain data.
    results, cases:
        What ``results.json`` and ``cases.csv`` hold.
    failed:
        Messages of stages that failed, by name.
    costs:
        ``{stage: {train_seconds, peak_mb, memory}}``, memory in MiB.
    """
    named = _rows(layout, recipe)
    blocks = {s["name"]: s for s in recipe["stages"] if s["name"] in named}
    columns = _columns(layout, [results.get(stage, {}) for stage in named])
    # Rows on different data (another set of classes) share no scale: nothing is best, and nothing can be tested.
    comparable = len({(block["data"], block["unit"]) for block in blocks.values()}) == 1
    compared = _comparisons(layout.stage, results, cases, recipe.get("report") or {}, columns) if comparable else []
    tests = {(c.split, c.metric, c.second): c for c in compared}
    lines = []
    for stage, name in named.items():
        cost = costs.get(stage) or {}
        lines.append(
            Line(
                name,
                stage,
                tuple(_number(c, stage, results.get(stage, {}), tests) for c in columns),
                FAILED if stage in failed else "" if stage in results else UNFINISHED,
                cost.get("train_seconds"),
                cost.get("peak_mb"),
            )
        )
    lines = [_with_means(line, columns) for line in lines]
    if comparable:
        lines = _ranked(lines, columns)
    lines += [_with_means(line, columns) for line in _references(layout, columns, results, named)]
    table = LaidOut(layout.title, layout.slug, layout.stage, tuple(columns), tuple(lines), layout.cost)
    words = caption(table, compared, comparable, blocks, costs, failed, notices)
    return replace(table, caption=tuple(words))


def _rows(layout: TableLayout, recipe: Mapping[str, Any]) -> dict[str, str]:
    """Full names of stages and what is printed for each, in order."""
    group = [s["name"] for s in recipe["stages"] if s["name"].split(SEPARATOR)[0] == layout.stage]
    if not layout.rows:
        return {stage: stage.partition(SEPARATOR)[2] or stage for stage in group}
    full = {label: label if label == layout.stage else layout.stage + SEPARATOR + label for label in layout.rows}
    return {full[label]: printed for label, printed in layout.rows.items() if full[label] in group}


def _columns(layout: TableLayout, found: Sequence[Mapping[str, Mapping[str, MetricValue]]]) -> list[Column]:
    there: dict[str, MetricValue] = {}
    for result in found:
        for values in result.values():
            for metric, value in values.items():
                there.setdefault(metric, value)
    splits = layout.splits or {split: split for result in found for split in result}
    metrics = {recorded(name, there): printed for name, printed in layout.metrics.items()} or {
        name: name for name in there
    }
    groups = dict(splits)
    if layout.average and len(splits) > 1:
        groups[""] = AVERAGE
    columns = []
    for split, group in groups.items():
        for metric, label in metrics.items():
            known = there.get(metric)
            unit, up = ("", None) if known is None else (known.unit, known.higher_is_better)
            columns.append(Column(split, metric, group, label, unit, up))
    return columns


def _comparisons(
    stage: str,
    results: Results,
    cases: Sequence[Mapping[str, Any]],
    report: Mapping[str, Any],
    columns: Iterable[Column],
) -> list[Comparison]:
    """All that the report compares of the stage, shown in this table or not: p-values are those of the report."""
    group = [name for name in results if name.split(SEPARATOR)[0] == stage]
    group.sort(key=lambda name: name != stage)
    splits = list(dict.fromkeys(split for name in group for split in results[name]))
    lower = [column.metric for column in columns if column.up is False]
    return compare_variants(group, splits, cases, report, lower)


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
    counts = {"n": value.n, "n_empty": value.n_empty, "n_patients": value.n_patients, "seen": value.seen}
    return Number(value.value, value.low, value.high, p=p, stars=stars, **counts)


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
    """Best and second best of each column; equal rows are not best, nor is the other of two second."""
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
    layout: TableLayout, columns: Sequence[Column], results: Results, named: Mapping[str, str]
) -> list[Line]:
    wanted = layout.rows or {INPUT: INPUT, TARGET: TARGET}
    lines = []
    for key, printed in wanted.items():
        if key not in (INPUT, TARGET) or layout.stage + SEPARATOR + key in named:
            continue
        cells = []
        for column in columns:
            found = [results.get(stage, {}).get(column.split, {}).get(column.metric) for stage in named]
            value = next((v.extras[key] for v in found if v is not None and v.extras.get(key) is not None), None)
            cells.append(None if value is None or math.isnan(value) else Number(value))
        if any(cells):
            lines.append(Line(printed, "", tuple(cells)))
    return lines
