"""The report: one self-contained HTML file, made from the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medkit.data.draws import drawn_in_words
from medkit.evaluation import files
from medkit.evaluation.results import read_results
from medkit.recipe.training import items_a_step
from medkit.records import encoded, write_atomically
from medkit.registry.plugins import Hooks
from medkit.reporting.page import page
from medkit.reporting.paper_table_text import as_html, write_tables
from medkit.reporting.paper_tables import paper_tables
from medkit.reporting.report_answer import answer
from medkit.reporting.report_cases import shown_cases
from medkit.reporting.report_decisions import HEADS
from medkit.reporting.report_sections import sections
from medkit.reporting.run_results import RunResults
from medkit.reporting.tables import number, p_value
from medkit.reporting.viewer import viewer
from medkit.runs.handle import Run
from medkit.runs.seen import banners

SCRIPTS = ("page.js", "cases.js", "viewer.js")
MOST_BYTES = 10_000_000
"""Largest size of a page in bytes, so that it can be mailed and opened on a phone."""
ROOM = 20_000
"""Bytes of the viewer's own elements, which are not in a page without it."""


def write_report(folder: Path, hooks: Hooks | None = None) -> Path:
    """Write ``report.html`` and the recipe's tables into a run folder, each whole or not at all; return its path.

    ``hooks`` asks plugins for their sections; one that fails is left out with a warning.

    Raises
    ------
    InputError
        if no stage has ended yet, well or not.
    """
    run = RunResults.read(folder)
    if not run.failed:
        read_results(folder)  # says how to go on with a run that has none
    environment = {"libraries": {}, "plugins": {}} | files.read_json(folder / "environment.json")
    tables = paper_tables(run)
    write_tables(folder, tables)
    lines = _by_stage(files.read_lines(folder / "metrics.jsonl"))
    found, cases = sections(run, lines, folder), shown_cases(run, run.recipe["name"])
    extra = _sections_of_plugins(Run(folder, run.results), hooks or Hooks())
    parts = [("Stages that failed", "failed")] if run.failed else []
    parts += [("Tables", "tables")] if tables else []
    parts += [(section.name, section.ident) for section in found]
    parts += [("Slices of cases", "viewer"), ("Every case", "cases")] if cases else []
    parts += [(title, ident) for title, ident, _ in extra]
    values = {
        "name": run.recipe["name"],
        "environment": environment,
        "notices": [
            *banners(folder),
            *(text for told in run.later.values() for text in told),
            *environment.get("notices", []),
        ],
        "answer": answer(run, lines),
        "contents": [("What came out", "answer"), *parts, ("How this was made", "made")],
        "failed": run.failed,
        "tables": [as_html(table) for table in tables],
        "sections": found,
        "case_table": cases,
        "extra": extra,
        "drawn": _drawn(run.recipe),
        "batches": _batches(run.recipe, environment.get("ranks", 1)),
        "recipe": files.read_text(folder / "recipe.yaml"),
        "folder": folder.name,
        "number": number,
        "p_value": p_value,
        "decision_heads": HEADS,
    }
    room = MOST_BYTES - ROOM - len(encoded(page("report.html", scripts=SCRIPTS, **values)))
    text = page("report.html", scripts=SCRIPTS, **values, viewer=viewer(run, folder, room))
    path = folder / "report.html"
    write_atomically(path, encoded(text))
    return path


def _by_stage(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        found.setdefault(line["stage"], []).append(line)
    return found


def _sections_of_plugins(run: Run, hooks: Hooks) -> list[tuple[str, str, str]]:
    """Title, name in the page and HTML of each."""
    hook = "medkit_report"
    found: list[tuple[str, str]] = []
    for plugin, answered in hooks(hook, run=run):
        try:
            checked = [(title, html) for title, html in answered if isinstance(title, str) and isinstance(html, str)]
            if len(checked) != len(answered):
                raise TypeError
        except (TypeError, ValueError):
            hooks.fault(plugin, hook, f"it answered {answered!r:.80}, not a list of (title, HTML)")
            continue
        found += checked
    return [(title, f"plugin-{i}", html) for i, (title, html) in enumerate(found, 1)]


def _drawn(recipe: Mapping[str, Any]) -> dict[str, list[str]]:
    """How slices were drawn for training, with the stages that this applies to."""
    found: dict[str, list[str]] = {}
    for stage in recipe["stages"]:
        if told := drawn_in_words(stage.get("draw"), stage.get("unit")):
            found.setdefault(told, []).append(stage["name"])
    return found


def _batches(recipe: Mapping[str, Any], ranks: int) -> dict[str, list[str]]:
    """How many items an optimizer step sees, with the stages that this applies to."""
    found: dict[str, list[str]] = {}
    for stage in recipe["stages"]:
        if isinstance(batch := stage.get("batch"), int):
            text = items_a_step(batch, stage.get("accumulate") or 1, ranks) or f"{batch} items per step"
            found.setdefault(text, []).append(stage["name"])
    return found
