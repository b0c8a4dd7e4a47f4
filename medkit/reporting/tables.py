"""Results as tables: a stage and its variants as rows, metrics as columns, a block of rows per test set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from medkit.evaluation.bootstrap import FEW, FEWEST
from medkit.evaluation.results import SEEN_MARK, MetricValue
from medkit.recipe.values import SEPARATOR

Results = Mapping[str, Mapping[str, Mapping[str, MetricValue]]]
INPUT, TARGET = "input", "target"


@dataclass(frozen=True)
class Cell:
    """One number as text, with the lines under it: interval, number of cases, remarks."""

    text: str = "–"
    notes: tuple[str, ...] = ()
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A variant on a test set; ``first`` of its test set, or a ``reference`` that no network made."""

    split: str
    name: str
    cells: tuple[Cell, ...]
    first: bool = False
    reference: bool = False


@dataclass(frozen=True)
class Head:
    """A column: a metric, its unit and whether higher is better."""

    name: str
    unit: str = ""
    up: bool = True


@dataclass(frozen=True)
class Table:
    """One stage with its variants; ``rules`` maps a rule for empty cases to the metrics that have it."""

    name: str
    heads: tuple[Head, ...]
    rows: tuple[Row, ...]
    rules: Mapping[str, Sequence[str]] = field(default_factory=dict)


def base_of(stage: str) -> str:
    """The stage that a variant belongs to; for a stage, itself."""
    return stage.partition(SEPARATOR)[0]


def variants(stages: Iterable[str]) -> dict[str, list[str]]:
    """Stages with their variants, the stage itself first: ``{"segment": ["segment", "segment@scratch"]}``."""
    groups: dict[str, list[str]] = {}
    for stage in stages:
        groups.setdefault(base_of(stage), []).append(stage)
    return {base: sorted(group, key=lambda stage: stage != base) for base, group in groups.items()}


def results_table(name: str, stages: Sequence[str], results: Results) -> Table:
    """The table of one stage and its variants.

    Metrics that know the score of the input itself (denoising) add a row for it, and one for the target.
    """
    splits = list(dict.fromkeys(split for stage in stages for split in results[stage]))
    metrics: dict[str, MetricValue] = {}
    for stage in stages:
        for found in results[stage].values():
            for metric, value in found.items():
                metrics.setdefault(metric, value)
    rows = []
    for split in splits:
        values = {m: [results[stage].get(split, {}).get(m) for stage in stages] for m in metrics}
        for i, stage in enumerate(stages):
            rows.append(Row(split, stage, tuple(_cell(values[m], i) for m in metrics), first=i == 0))
        for reference in (INPUT, TARGET):
            known = [next((v.extras.get(reference) for v in values[m] if v is not None), None) for m in metrics]
            if any(value is not None for value in known):
                cells = tuple(Cell() if value is None else Cell(number(value)) for value in known)
                rows.append(Row(split, reference, cells, reference=True))
    rules: dict[str, list[str]] = {}
    for metric, value in metrics.items():
        if value.rule not in ("", "none"):
            rules.setdefault(value.rule, []).append(metric)
    heads = tuple(Head(metric, value.unit, value.higher_is_better) for metric, value in metrics.items())
    return Table(name, heads, tuple(rows), rules)


NOTHING, LONGEST = 1e-12, 1e9


def number(value: float | None) -> str:
    """A number for a table: three decimals, or one from 10 on; a dash for undefined.

    What would print as nothing but zeros has three significant digits (2.51e-05), as has what would be too long to
    read. What is only rounding error is 0.
    """
    if value is None or math.isnan(value):
        return "–"
    size = abs(value)
    if size < NOTHING:
        return "0.000"
    if size < 0.0005 or size >= LONGEST:
        return f"{value:.3g}"
    return f"{value:.3f}" if size < 10 else f"{value:,.1f}"


def interval_told(low: float, high: float) -> str:
    """An interval under its number."""
    return "no interval" if math.isnan(low) else f"[{number(low)}, {number(high)}]"


LEVELS = (0.05, 0.01, 0.001)


def p_value(value: float) -> str:
    """A p-value for a table: three digits, "< 1e-10" below what an approximation can mean, a dash for undefined.

    One that is below a usual level is never rounded up to it.
    """
    if math.isnan(value):
        return "–"
    if value < 1e-10:
        return "< 1e-10"
    text = f"{value:.3g}"
    return next((f"< {level:g}" for level in LEVELS if value < level <= float(text)), text)


METHODS = {
    "bootstrap": "bootstrap over patients (BCa)",
    "Wilson": "Wilson's score interval by patients",
    "DeLong": "DeLong's by patients, on the scale of the logit",
    "jackknife": "jackknife over patients",
}


def how_intervals_were_made(results: Results, stages: Sequence[str]) -> str:
    """How the 95 % intervals of which metrics were computed, and why some have none."""
    by: dict[str, list[str]] = {}
    for stage in stages:
        for found in results[stage].values():
            for metric, value in found.items():
                names = by.setdefault(METHODS.get(value.method, value.method), [])
                if value.method and metric not in names:
                    names.append(metric)
    made = [f"{method}: {', '.join(names)}" for method, names in by.items() if names]
    text = f"95 % intervals ({'; '.join(made)})." if made else "95 % intervals by patients."
    return f"{text} Intervals of fewer than {FEW} patients are marked; with fewer than {FEWEST} there is none."


def _cell(values: Sequence[MetricValue | None], i: int) -> Cell:
    value = values[i]
    if value is None:
        return Cell()
    known = [v.value for v in values if v is not None and not math.isnan(v.value)]
    best = len(known) > 1 and value.value == (max(known) if value.higher_is_better else min(known))
    mark = SEEN_MARK if value.seen else ""
    notes = [interval_told(value.low, value.high)]
    if 0 < value.people < FEW and not math.isnan(value.low):
        notes[0] += f" (few: {count_of(value.people, 'patient')})"
    notes.append(value.counts + (f", {value.n_empty} empty" if value.n_empty else ""))
    if value.n_undefined:
        notes.append(f"undefined in {value.n_undefined} draws")
    if (positives := value.extras.get("positives")) is not None:
        patients = round(value.extras.get("positive_patients", 0))
        notes.append(f"{positives:.0f} positive, of {count_of(patients, 'patient')}")
    if missed := value.extras.get("missed"):
        notes.append(f"{missed:.0f} missed")
    if blank := value.extras.get("blank_slices"):
        notes.append(f"{number(value.extras.get('plain'))} with {blank:.0f} blank slices")
    if value.trained_on < value.trained_of:
        notes.append(f"trained on {value.trained_on} of {value.trained_of} patients")
    if mark:
        notes.append(seen_note(value))
    return Cell(number(value.value) + mark, tuple(notes), best)


def count_of(number: int, what: str) -> str:
    """``1 patient``, ``2 patients``."""
    return f"{number} {what}{'s' if number != 1 else ''}"


def seen_note(value: MetricValue) -> str:
    """How many patients of the test set were seen in training."""
    return f"{value.seen} of {value.patients} patients seen in training"


def as_text(table: Table) -> tuple[list[str], list[list[str]]]:
    """Columns and rows for a terminal: value and interval in one cell."""
    columns = ["test set", "variant"]
    columns += [f"{h.name}{f' ({h.unit})' if h.unit else ''} {'↑' if h.up else '↓'}" for h in table.heads]
    rows = [
        [row.split if row.first else "", row.name, *(" ".join([cell.text, *cell.notes[:1]]) for cell in row.cells)]
        for row in table.rows
    ]
    return columns, rows
