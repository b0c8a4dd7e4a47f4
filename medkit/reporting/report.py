"""The report: one self-contained HTML file from what lies in the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from medkit.data.loader import DRAWN
from medkit.evaluation import files
from medkit.evaluation.comparisons import compare_variants
from medkit.evaluation.embeddings import read_embedding
from medkit.evaluation.evaluate import MetricValue, read_cases, read_examples, read_results
from medkit.evaluation.results import recorded
from medkit.records import encoded, write_atomically
from medkit.registry.plugins import Hooks
from medkit.reporting import figures
from medkit.reporting.figures_embedding import embedding_map
from medkit.reporting.paper_table_text import as_html, write_tables
from medkit.reporting.paper_tables import laid_out
from medkit.reporting.tables import how_intervals_were_made, number, p_value, results_table, variants
from medkit.runs.folder import RunFolder
from medkit.runs.handle import Run
from medkit.runs.seen import banners

Results = dict[str, dict[str, dict[str, MetricValue]]]


def write_report(folder: Path, hooks: Hooks | None = None) -> Path:
    """Write ``report.html`` and the recipe's tables into a run folder, each whole or not at all; return its path.

    ``hooks`` asks plugins for sections of theirs; a section that fails is left out and told.
    """
    import jinja2

    results = read_results(folder)
    recipe_text = files.read_text(folder / "recipe.yaml")
    recipe = files.read_recipe(folder)
    environment = {"libraries": {}, "plugins": {}} | files.read_json(folder / "environment.json")
    cases = read_cases(folder)
    lines = files.read_lines(folder / "metrics.jsonl")
    done = RunFolder(folder).read_json("state.json", {}).get("done", [])
    shown = results | {stage: {} for stage in done if stage not in results}  # trained, and evaluated on nothing
    sections = [_section(base, stages, shown, cases, lines, folder, recipe) for base, stages in variants(shown).items()]
    tables = laid_out(folder)
    write_tables(folder, tables)
    environment_ = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment_.from_string(
        resources("medkit.reporting").joinpath("report.html").read_text(encoding="utf-8")
    )
    page = template.render(
        name=recipe["name"],
        environment=environment,
        notices=[*banners(folder), *environment.get("notices", [])],
        tables=[as_html(table) for table in tables],
        sections=sections,
        extra=_sections_of_plugins(Run(folder, results), hooks or Hooks()),
        drawn=_drawn(recipe),
        recipe=recipe_text,
        folder=folder.name,
        number=number,
        p_value=p_value,
    )
    path = folder / "report.html"
    write_atomically(path, encoded(page))
    return path


def _sections_of_plugins(run: Run, hooks: Hooks) -> list[tuple[str, str]]:
    hook, found = "medkit_report", []
    for plugin, sections in hooks(hook, run=run):
        try:
            checked = [(title, html) for title, html in sections if isinstance(title, str) and isinstance(html, str)]
            if len(checked) != len(sections):
                raise TypeError
        except (TypeError, ValueError):
            hooks.fault(plugin, hook, f"it answered {sections!r:.80}, not a list of (title, HTML)")
            continue
        found += checked
    return found


def _section(
    base: str,
    stages: Sequence[str],
    results: Results,
    cases: Sequence[Mapping[str, Any]],
    lines: Sequence[Mapping[str, Any]],
    folder: Path,
    recipe: Mapping[str, Any],
) -> dict[str, Any]:
    table = results_table(base, stages, results)
    splits = list(dict.fromkeys(row.split for row in table.rows))
    curves = [(s, figures.learning_curves([line for line in lines if line["stage"] == s])) for s in stages]
    pictures = []
    for stage in stages:
        for split in splits:
            embedded = folder / "embeddings" / f"{stage}.{split}.npz"
            if embedded.exists() and (drawn := embedding_map(read_embedding(embedded))):
                pictures.append((f"{stage}, {split}", drawn, "embedding"))
            path = folder / "examples" / f"{stage}.{split}.npz"
            if not path.exists():
                continue
            examples = read_examples(path)
            if all("output" in e and "target" in e for e in examples):
                pictures.append((f"{stage}, {split}", figures.restorations(examples), "restoration"))
                pictures.append((f"{stage}, {split}", figures.noise_power(examples), "spectrum"))
            elif examples:
                pictures.append((f"{stage}, {split}", figures.overlays(examples), "overlay"))
    fpv = {
        split: {s: _scores(cases, s, split, "fpv") for s in stages if _scores(cases, s, split, "fpv")}
        for split in splits
    }
    box = figures.boxes(fpv, "FPV of normal cases, µL") if any(fpv.values()) else ""
    report = recipe.get("report") or {}
    compared = compare_variants(stages, splits, cases, report, [head.name for head in table.heads if not head.up])
    measured = {recorded(metric, [head.name for head in table.heads]) for metric in _wanted(report)}
    return {
        "name": base,
        "table": table,
        "intervals": how_intervals_were_made(results, stages),
        "curves": [(s, c) for s, c in curves if c],
        "pictures": pictures,
        "box": box,
        "comparisons": compared,
        "untested": [h.name for h in table.heads if h.name in measured - {c.metric for c in compared}],
    }


def _drawn(recipe: Mapping[str, Any]) -> dict[str, list[str]]:
    """How slices were drawn for training, with the stages that it holds for."""
    found: dict[str, list[str]] = {}
    for stage in recipe["stages"]:
        if stage.get("draw") in DRAWN:
            found.setdefault(DRAWN[stage["draw"]], []).append(stage["name"])
    return found


def _wanted(report: Mapping[str, Any]) -> Sequence[str]:
    return (report.get("compare") or {}).get("metric", [])


def _scores(cases: Sequence[Mapping[str, Any]], stage: str, split: str, metric: str) -> list[float]:
    return [float(row[metric]) for row in cases if (row["stage"], row["split"]) == (stage, split) and row.get(metric)]
