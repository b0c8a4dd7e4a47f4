"""The report: one self-contained HTML file from what lies in the run folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medkit.data.draws import drawn_in_words
from medkit.evaluation import files
from medkit.evaluation.comparisons import Comparison
from medkit.evaluation.embeddings import read_embedding
from medkit.evaluation.results import MetricValue, read_examples, read_results, recorded
from medkit.recipe.training import items_a_step
from medkit.records import encoded, write_atomically
from medkit.registry.plugins import Hooks
from medkit.reporting import figures
from medkit.reporting.confusion import Confusion, confusions
from medkit.reporting.curves import learning_curves
from medkit.reporting.figures_embedding import embedding_map
from medkit.reporting.page import page
from medkit.reporting.paper_table_text import as_html, write_tables
from medkit.reporting.paper_tables import paper_tables
from medkit.reporting.run_results import RunResults
from medkit.reporting.stress import Stressed, stressed
from medkit.reporting.tables import Table, how_intervals_were_made, number, p_value, results_table
from medkit.runs.fitting import choice_told, read_choices
from medkit.runs.folder import RunFolder
from medkit.runs.handle import Run
from medkit.runs.own_data import OwnData
from medkit.runs.seen import banners


@dataclass(frozen=True)
class Picture:
    """An image of the report; ``kind`` decides what its caption explains."""

    title: str
    image: str
    kind: str


@dataclass(frozen=True)
class OwnRow:
    """A metric of a stage on its own training data, and on its test sets by name."""

    stage: str
    own: OwnData
    tested: Mapping[str, MetricValue]


@dataclass(frozen=True)
class Section:
    """What the report says of a stage and its variants."""

    name: str
    table: Table
    intervals: str
    choices: Sequence[tuple[str, str]]
    curves: Sequence[Picture]
    pictures: Sequence[Picture]
    box: str
    confusions: Sequence[Confusion]
    comparisons: Sequence[Comparison]
    untested: Sequence[str]
    own_data: Sequence[OwnRow]
    stress: Stressed | None


def write_report(folder: Path, hooks: Hooks | None = None) -> Path:
    """Write ``report.html`` and the recipe's tables into a run folder, each whole or not at all; return its path.

    ``hooks`` asks plugins for sections of theirs; a section that fails is left out and told.

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
    text = page(
        "report.html",
        name=run.recipe["name"],
        environment=environment,
        notices=[*banners(folder), *environment.get("notices", [])],
        failed=run.failed,
        tables=[as_html(table) for table in tables],
        sections=[_section(base, stages, run, lines, folder) for base, stages in run.variants().items()],
        extra=_sections_of_plugins(Run(folder, run.results), hooks or Hooks()),
        drawn=_drawn(run.recipe),
        batches=_batches(run.recipe, environment.get("ranks", 1)),
        recipe=files.read_text(folder / "recipe.yaml"),
        folder=folder.name,
        number=number,
        p_value=p_value,
    )
    path = folder / "report.html"
    write_atomically(path, encoded(text))
    return path


def _by_stage(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        found.setdefault(line["stage"], []).append(line)
    return found


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
    base: str, stages: Sequence[str], run: RunResults, lines: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path
) -> Section:
    table = results_table(base, stages, {stage: run.of(stage) for stage in stages})
    splits = list(dict.fromkeys(row.split for row in table.rows))
    choices = read_choices(RunFolder(folder))
    curves = [Picture(stage, learning_curves(lines.get(stage, [])), "curves") for stage in stages]
    compared = run.comparisons(base)
    heads = [head.name for head in table.heads]
    measured = {recorded(metric, heads) for metric in (run.report.get("compare") or {}).get("metric", [])}
    return Section(
        base,
        table,
        how_intervals_were_made({stage: run.of(stage) for stage in stages}, stages),
        [(stage, choice_told(choices[stage])) for stage in stages if stage in choices],
        [picture for picture in curves if picture.image],
        [picture for stage in stages for split in splits for picture in _pictures(folder, stage, split)],
        _boxes(run, stages, splits),
        list(confusions(run, stages, splits)),
        compared,
        [name for name in heads if name in measured - {c.metric for c in compared}],
        [row for stage in stages for row in _own_data(stage, run)],
        stressed(run, stages),
    )


def _own_data(stage: str, run: RunResults) -> Iterator[OwnRow]:
    for own in run.own_data.get(stage, []):
        yield OwnRow(
            stage, own, {split: found[own.metric] for split, found in run.of(stage).items() if own.metric in found}
        )


def _pictures(folder: Path, stage: str, split: str) -> Iterator[Picture]:
    """The map of the embedding and the example slices of one evaluation, as far as there are any."""
    title, name = f"{stage}, {split}", f"{stage}.{split}.npz"
    embedded, shown = folder / "embeddings" / name, folder / "examples" / name
    if embedded.exists() and (drawn := embedding_map(read_embedding(embedded))):
        yield Picture(title, drawn, "embedding")
    examples = read_examples(shown) if shown.exists() else []
    if not examples:
        return
    if all("output" in e and "target" in e for e in examples):
        yield Picture(title, figures.restorations(examples), "restoration")
        yield Picture(title, figures.noise_power(examples), "spectrum")
    else:
        yield Picture(title, figures.overlays(examples), "overlay")


def _boxes(run: RunResults, stages: Sequence[str], splits: Sequence[str]) -> str:
    """Box plots of false positive volumes, where they were measured."""
    fpv = {split: {s: found for s in stages if (found := run.cases.scores(s, split, "fpv"))} for split in splits}
    return figures.boxes(fpv, "FPV of normal cases, µL") if any(fpv.values()) else ""


def _drawn(recipe: Mapping[str, Any]) -> dict[str, list[str]]:
    """How slices were drawn for training, with the stages that it holds for."""
    found: dict[str, list[str]] = {}
    for stage in recipe["stages"]:
        if told := drawn_in_words(stage.get("draw"), stage.get("unit")):
            found.setdefault(told, []).append(stage["name"])
    return found


def _batches(recipe: Mapping[str, Any], ranks: int) -> dict[str, list[str]]:
    """How many items a step of the optimizer sees, with the stages that it holds for."""
    found: dict[str, list[str]] = {}
    for stage in recipe["stages"]:
        if isinstance(batch := stage.get("batch"), int):
            text = items_a_step(batch, stage.get("accumulate") or 1, ranks) or f"{batch} items a step"
            found.setdefault(text, []).append(stage["name"])
    return found
