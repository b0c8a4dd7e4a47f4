"""The report's sections, one for each stage and its variants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medkit.evaluation.comparisons import Comparison
from medkit.evaluation.embeddings import read_embedding
from medkit.evaluation.results import MetricValue, read_examples, recorded
from medkit.reporting import figures
from medkit.reporting.confusion import Confusion, confusions
from medkit.reporting.curves import learning_curves, panels
from medkit.reporting.figures_embedding import embedding_map
from medkit.reporting.legend import legend, spelled_out
from medkit.reporting.report_decisions import (
    Decisions,
    GroupTable,
    Measured,
    decisions,
    group_tables,
    measured,
    ungroupable,
)
from medkit.reporting.room import Room
from medkit.reporting.run_results import RunResults
from medkit.reporting.stress import Stressed, stressed
from medkit.reporting.tables import Table, base_of, how_intervals_were_made, results_table
from medkit.reporting.worst_cases import Worst, worst_cases
from medkit.runs.fitting import choice_told, read_choices
from medkit.runs.folder import RunFolder
from medkit.runs.own_data import OwnData

PICTURES = 6_000_000
"""Most bytes of all pictures except the viewer's."""
Lines = Mapping[str, Sequence[Mapping[str, Any]]]
"""Lines of ``metrics.jsonl`` by stage."""


@dataclass(frozen=True)
class Picture:
    """An image of the report.

    ``kind`` decides what its caption explains, ``alt`` says what it shows, and ``counts`` of how many.
    """

    title: str
    image: str
    kind: str
    alt: str
    counts: str = ""


@dataclass(frozen=True)
class OwnRow:
    """A metric of a stage on its own training data, and on its test sets by name."""

    stage: str
    own: OwnData
    tested: Mapping[str, MetricValue]


@dataclass(frozen=True)
class Section:
    """What the report says about a stage and its variants.

    ``ident`` is its id in the page; ``counted`` what its numbers count, cases or slices; ``legend`` says what each
    metric is, and ``spelled_out`` what short forms mean;
    ``ungrouped``, whether it was tested by a version that measured no groups;
    ``ungroupable`` says why a test set has none;
    ``left_out`` has the titles of pictures for which there was no room.
    """

    ident: str
    name: str
    table: Table
    counted: str
    intervals: str
    legend: Mapping[str, str]
    spelled_out: Sequence[str]
    choices: Sequence[tuple[str, str]]
    comparisons: Sequence[Comparison]
    untested: Sequence[str]
    own_data: Sequence[OwnRow]
    stress: Stressed | None
    decisions: Sequence[Decisions]
    confusions: Sequence[Confusion]
    measured: Sequence[Measured]
    groups: Sequence[GroupTable]
    ungrouped: bool
    ungroupable: Sequence[str]
    worst: Sequence[Worst]
    boxes: Sequence[Picture]
    curves: Sequence[Picture]
    pictures: Sequence[Picture]
    left_out: Sequence[str]


def sections(run: RunResults, lines: Lines, folder: Path) -> list[Section]:
    """A section for each stage that is finished or has results."""
    room = Room(PICTURES)
    return [
        _section(f"stage-{i}", base, stages, _Source(run, lines, folder, room))
        for i, (base, stages) in enumerate(run.variants().items(), 1)
    ]


@dataclass(frozen=True)
class _Source:
    """What sections are made of, and the room that they share."""

    run: RunResults
    lines: Lines
    folder: Path
    room: Room


def _section(ident: str, base: str, stages: Sequence[str], source: _Source) -> Section:
    run, folder, room = source.run, source.folder, source.room
    before = len(room.left_out)
    results = {stage: run.of(stage) for stage in stages}
    table = results_table(base, stages, results)
    splits = list(dict.fromkeys(row.split for row in table.rows))
    choices = read_choices(RunFolder(folder))
    compared = run.comparisons(base)
    heads = [head.name for head in table.heads]
    wanted = {recorded(metric, heads) for metric in (run.report.get("compare") or {}).get("metric", [])}
    return Section(
        ident=ident,
        name=base,
        table=table,
        counted=next((v.counted for found in results.values() for vs in found.values() for v in vs.values()), "cases"),
        intervals=how_intervals_were_made(results, stages),
        legend=legend(heads, [one for one in run.recipe.get("stages", []) if base_of(one["name"]) == base]),
        spelled_out=spelled_out([head.unit for head in table.heads], stages),
        choices=[(stage, choice_told(choices[stage])) for stage in stages if stage in choices],
        comparisons=compared,
        untested=[name for name in heads if name in wanted - {c.metric for c in compared}],
        own_data=[row for stage in stages for row in _own_data(stage, run)],
        stress=stressed(run, stages),
        decisions=room.kept(decisions(run, stages, splits)),
        confusions=list(confusions(run, stages, splits)),
        measured=room.kept(measured(run, stages, splits)),
        groups=list(group_tables(run, stages, splits)),
        ungrouped=any((stage, split) not in run.subgroups for stage in stages for split in run.of(stage)),
        ungroupable=[told for split in splits for told in ungroupable(run, stages, split)],
        worst=[row for split in splits for stage in stages for row in worst_cases(run, stage, split)],
        boxes=room.kept(_boxes(run, stages, splits)),
        curves=room.kept(picture for stage in stages for picture in _curves(stage, source.lines.get(stage, []))),
        pictures=room.kept(pic for stage in stages for split in splits for pic in _pictures(source, stage, split)),
        left_out=room.left_out[before:],
    )


def _own_data(stage: str, run: RunResults) -> Iterator[OwnRow]:
    for own in run.own_data.get(stage, []):
        yield OwnRow(
            stage, own, {split: found[own.metric] for split, found in run.of(stage).items() if own.metric in found}
        )


def _curves(stage: str, lines: Sequence[Mapping[str, Any]]) -> Iterator[Picture]:
    if drawn := learning_curves(lines):
        shown = ", ".join(panel.title for panel in panels(lines))
        yield Picture(stage, drawn, "curves", f"learning curves of {stage} over {len(lines)} epochs: {shown}")


def _pictures(source: _Source, stage: str, split: str) -> Iterator[Picture]:
    """The map of the embedding and the example slices of one evaluation, if there are any."""
    title, name = f"{stage}, {split}", f"{stage}.{split}.npz"
    embedded, shown = source.folder / "embeddings" / name, source.folder / "examples" / name
    rows = source.run.cases.of(stage, split)
    if embedded.exists() and (drawn := embedding_map(embedding := read_embedding(embedded))):
        told = f"map of the features of {len(embedding.ids)} images of {split} by the encoder of {stage}"
        ids = set(embedding.ids.tolist())
        yield Picture(title, drawn, "embedding", told, _counts([row for row in rows if row["case"] in ids], "image"))
    examples = read_examples(shown) if shown.exists() else []
    if not examples:
        return
    cases = ", ".join(f"case {e['case']} slice {e['slice']}" for e in examples)
    if all("output" in e and "target" in e for e in examples):
        told = f"input, output, target and their differences of {cases}"
        yield Picture(title, figures.restorations(examples), "restoration", told)
        told = f"power spectra of input, output and target, and of the errors, mean over {len(examples)} slices"
        yield Picture(title, figures.noise_power(examples), "spectrum", told)
    else:
        told = f"slices with truth, prediction and activation where available: {cases}"
        yield Picture(title, figures.overlays(examples), "overlay", told)


def _boxes(run: RunResults, stages: Sequence[str], splits: Sequence[str]) -> Iterator[Picture]:
    """Box plots of false positive volumes, where they were measured."""
    fpv = {split: {s: found for s in stages if (found := run.cases.scores(s, split, "fpv"))} for split in splits}
    if any(fpv.values()):
        count = sum(len(values) for found in fpv.values() for values in found.values())
        told = f"box plots of {count} false positive volumes of normal cases, by test set and variant"
        shown = {split: run.cases.of(next(iter(found)), split) for split, found in fpv.items() if found}
        what = "slice" if any(block.get("unit") == "slice" for block in run.blocks(stages).values()) else "case"
        counts = "; ".join(
            f"{split}: {_counts([row for row in rows if row.get('fpv')], what)}" for split, rows in shown.items()
        )
        yield Picture("false positive volumes", figures.boxes(fpv, "FPV of normal cases, µL"), "boxes", told, counts)


def _counts(rows: Sequence[Mapping[str, Any]], what: str) -> str:
    """``12 images of 3 patients``."""
    patients = len({row["patient"] for row in rows})
    return f"{len(rows)} {what}{'s' * (len(rows) != 1)} of {patients} patient{'s' * (patients != 1)}"
