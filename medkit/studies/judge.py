"""Verdicts of a study: whether each method would beat the reference in a new training on new patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from medkit.errors import InputError
from medkit.evaluation.verdict import Verdict, verdicts
from medkit.evaluation.verdict_change import ChangeVerdict, change_verdicts
from medkit.evaluation.verdict_result import marked
from medkit.evaluation.verdict_runs import is_of_all_cases, patient_values, shared_values
from medkit.evaluation.verdict_spread import SpreadVerdict, spread_verdicts
from medkit.parts.metrics_classification import AUC
from medkit.studies.places import Missing, Place, places, told
from medkit.studies.results import Measured, StudyResults
from medkit.studies.study import SEED

Made = TypeVar("Made")
PSEUDO = (
    "Values of patients are pseudo-values of the AUC: what it is with a patient, times the number of patients, less "
    "what it is without her, times that number less one; their mean is the AUC without its bias"
)

CLASS_MEANS = (
    "Values of patients are what each adds to the mean over classes, in which a class of few patients counts as much "
    "as any other; their mean is that mean"
)


@dataclass(frozen=True)
class Judged:
    """The verdicts at one point of a study, or why there are none."""

    place: tuple[str, ...]
    verdicts: Sequence[Verdict]
    why_not: str = ""
    missing: Sequence[Missing] = ()
    """Trials of this point that were planned and not measured: what is said here may change with them."""

    @property
    def sentences(self) -> list[str]:
        found = [one.text for one in self.verdicts] or [f"No verdict: {self.why_not}."]
        return [*found, *([f"No result of {told(self.missing)}."] if self.missing else [])]


@dataclass(frozen=True)
class BesideMeans:
    """Verdicts on something else than means at one point of a study, or why there are none.

    Of ``kind`` ``spread`` (how far trainings differ), or ``change`` (how much more methods keep than the reference from
    one split to another).
    """

    kind: Literal["spread", "change"]
    place: tuple[str, ...]
    verdicts: Sequence[SpreadVerdict | ChangeVerdict]
    why_not: str = ""
    missing: Sequence[Missing] = ()

    def json(self) -> list[dict[str, Any]]:
        return [{"kind": self.kind, "place": list(self.place), **asdict(one)} for one in self.verdicts]


def judged(found: StudyResults) -> list[Judged]:
    """Every method against the reference, point by point; p is corrected for the methods of a point."""
    reference = found.compare.get("reference")
    if reference is None:
        return []

    def of(mine: Sequence[Measured]) -> Sequence[Verdict]:
        return marked(verdicts(_rows(found, mine), reference, higher_is_better=higher(found)), _seen(mine))

    return [Judged(at.labels, *tried(of, at), at.missing) for at in places(found)]


def spreads(found: StudyResults, methods: Sequence[str]) -> list[BesideMeans]:
    """How far trainings of some methods differ, against those of the reference."""

    def of(mine: Sequence[Measured]) -> Sequence[SpreadVerdict]:
        return marked(spread_verdicts(_rows(found, mine), found.compare["reference"], methods), _seen(mine))

    return [BesideMeans("spread", at.labels, *tried(of, at), at.missing) for at in places(found)]


def changes(found: StudyResults, before: StudyResults, methods: Sequence[str]) -> list[BesideMeans]:
    """How much more some methods keep than the reference since ``before``, the same number on another split."""
    earlier = {at.labels: at for at in places(before)}

    def of(mine: Sequence[Measured], then: Sequence[Measured]) -> list[ChangeVerdict]:
        rows = (_rows(found, mine), _rows(before, then))
        each = change_verdicts(*rows, found.compare["reference"], methods, higher_is_better=higher(found))
        return marked(each, _seen([*mine, *then]))

    each = [(at, earlier[at.labels]) for at in places(found)]
    return [
        BesideMeans(
            "change",
            at.labels,
            *tried(of, at, then),
            list(dict.fromkeys([*at.missing, *then.missing])),
        )
        for at, then in each
    ]


def tried(make: Callable[..., Sequence[Made]], *at: Place) -> tuple[Sequence[Made], str]:
    """Verdicts on what was measured at some places, or none and the reason: too few trainings or patients."""
    if not all(one.measured for one in at):
        return [], "nothing has been measured here"
    try:
        return make(*(one.measured for one in at)), ""
    except InputError as error:
        return [], error.what


def higher(found: StudyResults) -> bool:
    """Whether more of the compared metric is better."""
    return all(one.values[found.metric].higher_is_better for one in found.measured if found.metric in one.values)


def _seen(measured: Sequence[Measured]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in measured:
        found.setdefault(one.trial.method, []).extend(one.seen)
    return found


def _rows(found: StudyResults, measured: Sequence[Measured]) -> list[dict[str, Any]]:
    of = {(one.trial.method, one.seed): one.cases for one in measured}
    values, _ = shared_values(of, found.metric)
    return [{"method": method, SEED: seed, **row} for (method, seed), rows in values.items() for row in rows]


def values_are(found: StudyResults) -> str:
    """What the values are that verdicts are made from, in words; "" if each is a case's own."""
    if found.metric == AUC.name:
        return PSEUDO
    return CLASS_MEANS if any(is_of_all_cases(found.metric, one.cases) for one in found.measured) else ""


def value_rows(measured: Measured, metric: str) -> list[dict[str, Any]]:
    """A row for each case, or for each patient, of one trial: method, seed, patient, case, value.

    Raises
    ------
    InputError
        if the metric has no value per case, and is not one that pseudo-values can be made for.
    """
    start = {"method": measured.trial.method, SEED: measured.trial.point.get(SEED, "")}
    return [start | row for row in patient_values(measured.cases, metric)]
