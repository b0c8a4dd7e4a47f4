"""Decisions and measurements in the report: figures with their numbers, for each test set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from medkit.evaluation.digits import fewest_digits
from medkit.evaluation.results import MetricValue
from medkit.evaluation.subgroups import FEWEST, Group, Subgroups
from medkit.reporting.bland_altman import agreement
from medkit.reporting.decisions import CLASSES, OperatingPoint, Scores, Share, brier, operating_points, scores_of
from medkit.reporting.figures_decisions import bland_altman, decision_curves
from medkit.reporting.run_results import RunResults
from medkit.reporting.tables import count_of, interval_told, number


@dataclass(frozen=True)
class Decisions:
    """ROC, precision-recall and calibration curves of one test set, and what thresholds give.

    ``points`` are the rows of a table under ``HEADS``: texts; proportions have the lines under them.
    """

    title: str
    image: str
    alt: str
    note: str
    points: Sequence[Sequence[str | tuple[str, str]]]


HEADS = ("of", "threshold chosen for", "threshold", "sensitivity", "specificity", "PPV", "NPV")


@dataclass(frozen=True)
class Measured:
    """A Bland-Altman plot with its numbers in words."""

    title: str
    image: str
    note: str


@dataclass(frozen=True)
class GroupTable:
    """Results of the groups of one evaluation: ``rows`` of (field, group, patients, a cell per metric)."""

    title: str
    heads: Sequence[str]
    rows: Sequence[tuple[str, str, str, Sequence[tuple[str, str]]]]
    note: str


def decisions(run: RunResults, stages: Sequence[str], splits: Sequence[str]) -> Iterator[Decisions]:
    """One per test set, with a curve per variant; with declared classes one per variant too, with a curve per class."""
    for split in splits:
        of_stages: list[tuple[Scores, str]] = []
        for stage in stages:
            found = [(scores, run.counted(stage, scores.patients)) for scores in scores_of(run, stage, split)]
            if run.labels(stage) is None:
                of_stages += found
            elif drawn := _decisions(f"{stage}, {split}", found):
                yield drawn
        if drawn := _decisions(split, of_stages):
            yield drawn


def _decisions(title: str, found: Sequence[tuple[Scores, str]]) -> Decisions | None:
    both = [(scores, counts) for scores, counts in found if scores.both]
    if not both:
        return None
    drawn = [scores for scores, _ in both][:CLASSES]
    names = [scores.name for scores in drawn]
    left = [scores.name for scores, _ in both[CLASSES:]]
    told = {scores.name: f"{counts}; {_positives(scores)}" for scores, counts in both[:CLASSES]}
    alike = len({*told.values()}) == 1
    parts = [f"{told[names[0]]}."] if alike else [f"{name}: {counts}." for name, counts in told.items()]
    parts += [f"Curves of the first {CLASSES} only, without {', '.join(left)}."] if left else []
    parts.append(f"Brier score: {', '.join(f'{scores.name} {number(brier(scores))}' for scores in drawn)}.")
    parts.append(
        "A dot is the threshold 0.5. Thresholds chosen on these same cases look better here than on others. "
        "Points of the calibration curve have equal numbers of rows, at least 10, with 95 % intervals by patients."
    )
    rows = [row for scores in drawn for row in _rows(scores)]
    of = f"{', '.join(names)} on {title}"
    alt = f"ROC, precision-recall and calibration curves of {of}; the table below has their numbers"
    return Decisions(title, decision_curves(drawn), alt, " ".join(parts), rows)


def _positives(scores: Scores) -> str:
    patients = len({p for p, label in zip(scores.patients, scores.label, strict=True) if label})
    return f"{int(scores.label.sum())} positive, of {count_of(patients, 'patient')}"


def _rows(scores: Scores) -> Iterator[Sequence[str | tuple[str, str]]]:
    for point in operating_points(scores):
        yield [scores.name, point.rule, _threshold(point.threshold, scores), *map(_share, _shares(point))]


def _threshold(value: float, scores: Scores) -> str:
    """A threshold in as few digits as divide the scores in the same way; "none" for one below all of them."""
    above = int(np.sum(scores.probability > value))
    return (
        "none" if math.isinf(value) else fewest_digits(value, lambda told: np.sum(scores.probability > told) == above)
    )


def _shares(point: OperatingPoint) -> tuple[Share, ...]:
    return point.sensitivity, point.specificity, point.ppv, point.npv


def _share(share: Share) -> tuple[str, str]:
    return number(share.value), f"{interval_told(share.low, share.high)} {share.top} of {share.bottom}"


def measured(run: RunResults, stages: Sequence[str], splits: Sequence[str]) -> Iterator[Measured]:
    """Bland-Altman plots of evaluations with a value and a true value."""
    for split in splits:
        for stage in stages:
            if (found := agreement(run, stage, split)) is None:
                continue
            unit, (low, high) = f" {found.unit}" if found.unit else "", found.limits
            ends = "no interval" if math.isnan(found.low) else f"95 % {number(found.low)} to {number(found.high)}"
            note = (
                f"{found.counts}. Bias (mean of predicted − true) {number(found.bias)}{unit} ({ends}); limits of "
                f"agreement {number(low)} to {number(high)}{unit}."
            )
            yield Measured(f"{stage}, {split}", bland_altman(found), note)


def group_tables(run: RunResults, stages: Sequence[str], splits: Sequence[str]) -> Iterator[GroupTable]:
    """The groups of each evaluation that has any."""
    for split in splits:
        for stage in stages:
            found = run.subgroups.get((stage, split))
            if found is not None and found.fields:
                yield _group_table(f"{stage}, {split}", found)


def ungroupable(run: RunResults, stages: Sequence[str], split: str) -> Iterator[str]:
    """Why a test set has no groups, if that was measured: once, since all variants are tested on the same cases."""
    for stage in stages:
        found = run.subgroups.get((stage, split))
        if found is not None and not found.fields:
            why = ", ".join(f"{name}: {why}" for name, why in found.left_out.items())
            yield f"{split} ({why or 'no field divides the cases'})"
            return


def _group_table(title: str, found: Subgroups) -> GroupTable:
    groups = [group for groups in found.fields.values() for group in groups.values()]
    each = {name: value for group in groups for name, value in group.values.items()}
    heads = [f"{name} ({value.unit})" if value.unit else name for name, value in each.items()]
    rows = [
        (field if i == 0 else "", name, count_of(group.patients, "patient"), _cells(group, list(each)))
        for field, groups in found.fields.items()
        for i, (name, group) in enumerate(groups.items())
    ]
    note = f"Numbers that rest on fewer than {FEWEST} patients are withheld, since they could identify a person."
    note += " Many groups are compared here, so some differ by chance."
    left = ", ".join(f"{name} ({why})" for name, why in found.left_out.items())
    return GroupTable(title, heads, rows, f"{note} Left out: {left}." if left else note)


def _cells(group: Group, names: Sequence[str]) -> list[tuple[str, str]]:
    return [_cell(group.values[name]) if name in group.values else ("withheld", "") for name in names]


def _cell(value: MetricValue) -> tuple[str, str]:
    return number(value.value), f"{interval_told(value.low, value.high)} {value.counts}"
