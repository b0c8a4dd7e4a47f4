"""A run and its results as a notebook shows them: pieces of HTML that need nothing beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from medkit.evaluation.results import MetricValue
from medkit.runs.folder import RunFolder

if TYPE_CHECKING:
    from medkit.runs.handle import Run

HEAD = ("stage", "split", "metric", "value", "95 % interval", "rows", "patients")
Values = Mapping[str, Mapping[str, Mapping[str, MetricValue]]]


def results_html(results: Values) -> str:
    """A table with a row a stage, split and metric; † marks test sets with patients who were seen in training."""
    head = "".join(f'<th scope="col">{name}</th>' for name in HEAD)
    rows = [
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in (stage, split, metric, *_cells(value))) + "</tr>"
        for stage, splits in results.items()
        for split, metrics in splits.items()
        for metric, value in metrics.items()
    ]
    if not rows:
        return "<p>Nothing has been evaluated.</p>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _cells(value: MetricValue) -> list[str]:
    interval = f"{value.low:.4g} to {value.high:.4g}" if math.isfinite(value.low + value.high) else ""
    shown = f"{value.value:.4g} {value.unit}".strip() if math.isfinite(value.value) else "undefined"
    return [shown + (" †" if value.seen else ""), interval, f"{value.n} {value.counted}", str(value.people)]


def run_html(run: Run) -> str:
    """What it is and how it ended, what has to be known of its data, where its report lies, and its results."""
    title = f"<strong>{escape(run.recipe.name)}</strong>: {run.status}, in <code>{escape(str(run.folder))}</code>"
    lines = [title, *(f"{escape(stage)} failed: {escape(why)}" for stage, why in run.failed.items())]
    lines += [
        f"<em>{escape(str(one))}</em>"
        for one in RunFolder(run.folder).read_json("environment.json", {}).get("notices", [])
    ]
    if run.report.is_file():
        lines.append(f"Report: <code>{escape(str(run.report))}</code>")
    return "".join(f"<p>{line}</p>" for line in lines) + results_html(run.results)
