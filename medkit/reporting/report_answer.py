"""The report's first part: what was compared, what came out, and who was seen in training, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medkit.evaluation.comparisons import Comparison
from medkit.evaluation.results import MetricValue
from medkit.reporting.paper_table_text import duration
from medkit.reporting.run_results import RunResults
from medkit.reporting.tables import count_of, number, p_value, seen_note

MOST = 12
"""Most sentences of results; more belong in a table."""


@dataclass(frozen=True)
class Answer:
    """Sentences: what was ``compared`` on what, what was ``found``, and who was ``seen`` in training."""

    compared: Sequence[str]
    found: Sequence[str]
    left_out: str
    seen: Sequence[str]


def answer(run: RunResults, lines: Mapping[str, Sequence[Mapping[str, Any]]]) -> Answer:
    """The answer of a run, from whatever results there are."""
    groups = run.variants()
    compared = [_compared(base, stages, run) for base, stages in groups.items()]
    found = [sentence for base, stages in groups.items() for sentence in _found(base, stages, run)]
    more = len(found) - MOST
    left_out = f"{more} more such numbers are in the tables below." if more > 0 else ""
    return Answer(compared, found[:MOST], left_out, list(_seen(run, groups, lines)))


def _compared(base: str, stages: Sequence[str], run: RunResults) -> str:
    others = ", ".join(stage for stage in stages if stage != base)
    who = f"{base} and {others}" if others and base in stages else base if base in stages else others
    sets = {split: values for stage in stages for split, values in run.of(stage).items()}
    if not sets:
        return f"{who}: trained, and evaluated on nothing."
    on = "; ".join(f"{split} ({size})" if (size := _size(values)) else split for split, values in sets.items())
    return f"{who}: tested on {on}."


def _size(values: Mapping[str, MetricValue]) -> str:
    """Patients, cases and slices of a test set, as far as the run has counted them."""
    value = next((value for value in values.values() if value.patients), None)
    if value is None:
        return ""
    counts = [count_of(value.patients, "patient")]
    counts += [count_of(value.cases, "case")] if value.cases != value.patients else []
    counts += [count_of(value.slices, "slice")] if value.slices != value.cases else []
    return ", ".join(counts)


def _found(base: str, stages: Sequence[str], run: RunResults) -> Iterator[str]:
    """One sentence per test; where there is none, the first metric of each stage and test set."""
    comparisons = run.comparisons(base)
    for comparison in comparisons:
        yield _difference(comparison, run)
    told = {comparison.split for comparison in comparisons}
    for stage in stages:
        for split, values in run.of(stage).items():
            if split in told or not values:
                continue
            name, value = next(iter(values.items()))
            yield f"{stage} on {split}: {_measured(name, value)}."


def _difference(c: Comparison, run: RunResults) -> str:
    first, second = (run.of(stage).get(c.split, {}).get(c.metric) for stage in (c.first, c.second))
    of = " and ".join(f"{_value(v)} for {stage}" for v, stage in ((first, c.first), (second, c.second)) if v)
    p = "" if math.isnan(c.p_holm) else f"p = {p_value(c.p_holm)} after Holm's correction; ".replace("= <", "<")
    what = next((value.counted for value in (first, second) if value is not None), "cases").removesuffix("s")
    on = f"{count_of(c.test.patients, 'patient')}, {count_of(c.test.n, what)}"
    unit = f" in {first.unit}" if first is not None and first.unit else ""
    says = c.says if p else f"whether they differ is {c.says}"
    return (
        f"{c.metric}{unit} on {c.split} is {of}: {says} "
        f"(difference {number(c.test.difference)}, {c.test.name}, {p}{on})."
    )


def _measured(name: str, value: MetricValue) -> str:
    unit = f" {value.unit}" if value.unit else ""
    return f"{name} is {_value(value)}{unit} ({value.counts})" + (f", {seen_note(value)}" if value.seen else "")


def _value(value: MetricValue) -> str:
    if math.isnan(value.value):
        return "undefined"
    interval = "no interval" if math.isnan(value.low) else f"95 % interval {number(value.low)} to {number(value.high)}"
    return f"{number(value.value)} ({interval})"


def _seen(
    run: RunResults, groups: Mapping[str, Sequence[str]], lines: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Iterator[str]:
    values = [v for stages in groups.values() for s in stages for found in run.of(s).values() for v in found.values()]
    for sentences in run.banners.values():
        yield from (f"{sentence}." for sentence in sentences)
    if values and all(value.patients for value in values) and not any(value.seen for value in values):
        yield "No patient of any test set was trained or validated on, in any stage that these results depend on."
    elif values and not any(value.patients for value in values):
        yield "Whether test patients were seen in training was not counted by the version that made this run."
    for stages in groups.values():
        for stage in stages:
            yield _trained(stage, run, lines.get(stage, []))
    for found in run.own_data.values():
        if any(not own.beaten for own in found):
            yield "A stage does not beat the trivial answer on its own training data: see the warning at its results."
            break


def _trained(stage: str, run: RunResults, lines: Sequence[Mapping[str, Any]]) -> str:
    value = next((v for found in run.of(stage).values() for v in found.values() if v.trained_on), None)
    parts = [count_of(len(lines), "epoch")] if lines else []
    if value is not None:
        of = f" of {value.trained_of}" if value.trained_of > value.trained_on else ""
        parts.append(f"{value.trained_on}{of} patients")
    if seconds := run.costs.get(stage, {}).get("train_seconds"):
        parts.append(duration(seconds))
    return f"{stage} was trained: {', '.join(parts)}." if parts else f"{stage} was trained."
