"""Verdicts of a study: whether each method would beat the reference in a new training on new patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

from medkit.errors import InputError
from medkit.evaluation.verdict import Verdict, verdicts
from medkit.evaluation.verdict_change import ChangeVerdict, change_verdicts
from medkit.evaluation.verdict_runs import patient_values
from medkit.evaluation.verdict_spread import SpreadVerdict, spread_verdicts
from medkit.studies.results import Measured, StudyResults
from medkit.studies.study import SEED

PSEUDO = (
    "Values of patients are pseudo-values of the AUC: what it is with a patient, times the number of patients, less "
    "what it is without her, times that number less one; their mean is the AUC without its bias"
)


@dataclass(frozen=True)
class Judged:
    """The verdicts at one point of a study, or why there are none."""

    place: tuple[str, ...]
    verdicts: Sequence[Verdict]
    why_not: str = ""

    @property
    def sentences(self) -> list[str]:
        return [found.sentence for found in self.verdicts] or [f"No verdict: {self.why_not}."]


@dataclass(frozen=True)
class BesideMeans:
    """Verdicts on something else than means at one point of a study; none if there are too few trainings.

    Of ``kind`` ``spread`` (how far trainings differ), or ``change`` (how much more methods keep than the reference from
    one split to another).
    """

    kind: Literal["spread", "change"]
    place: tuple[str, ...]
    verdicts: Sequence[SpreadVerdict | ChangeVerdict]

    def json(self) -> list[dict[str, Any]]:
        return [{"kind": self.kind, "place": list(self.place), **asdict(one)} for one in self.verdicts]


def judged(found: StudyResults) -> list[Judged]:
    """Every method against the reference, point by point; p is corrected for the methods of a point."""
    reference = found.compare.get("reference")
    if reference is None:
        return []
    return [_judged(found, place, mine, reference) for place, mine in _places(found).items()]


def spreads(found: StudyResults, methods: Sequence[str]) -> list[BesideMeans]:
    """How far trainings of some methods differ, against those of the reference; nothing if it cannot be judged."""

    def of(mine: Sequence[Measured]) -> Sequence[SpreadVerdict]:
        return spread_verdicts(_rows(found, mine), found.compare["reference"], methods)

    return [BesideMeans("spread", place, _tried(partial(of, mine))) for place, mine in _places(found).items()]


def changes(found: StudyResults, before: StudyResults, methods: Sequence[str]) -> list[BesideMeans]:
    """How much more some methods keep than the reference since ``before``, the same number on another split."""
    higher, earlier = _higher(found.metric, found.measured), _places(before)

    def of(mine: Sequence[Measured], place: tuple[str, ...]) -> list[ChangeVerdict]:
        rows = (_rows(found, mine), _rows(before, earlier.get(place, [])))
        return change_verdicts(*rows, found.compare["reference"], methods, higher_is_better=higher)

    return [BesideMeans("change", place, _tried(partial(of, mine, place))) for place, mine in _places(found).items()]


def _tried(make: Callable[[], Sequence[Any]]) -> Sequence[Any]:
    """Verdicts, or none if there are too few trainings or patients."""
    try:
        return make()
    except InputError:
        return []


def _places(found: StudyResults) -> dict[tuple[str, ...], list[Measured]]:
    places: dict[tuple[str, ...], list[Measured]] = {}
    for measured in found.measured:
        places.setdefault(measured.place, []).append(measured)
    return places


def _rows(found: StudyResults, measured: Sequence[Measured]) -> list[dict[str, Any]]:
    return [row for one in measured for row in value_rows(one, found.metric)]


def _higher(metric: str, measured: Sequence[Measured]) -> bool:
    return all(one.values[metric].higher_is_better for one in measured if metric in one.values)


def _judged(found: StudyResults, place: tuple[str, ...], measured: Sequence[Measured], reference: str) -> Judged:
    higher = _higher(found.metric, measured)
    try:
        return Judged(place, verdicts(_rows(found, measured), reference, higher_is_better=higher))
    except InputError as error:
        return Judged(place, [], error.what)


def value_rows(measured: Measured, metric: str) -> list[dict[str, Any]]:
    """A row for each case, or for each patient, of one trial: method, seed, patient, case, value.

    Raises
    ------
    InputError
        if the metric has no value per case, and is not one that pseudo-values can be made for.
    """
    start = {"method": measured.trial.method, SEED: measured.trial.point.get(SEED, "")}
    return [start | row for row in patient_values(measured.cases, metric)]
