"""Verdicts of a study: whether each method would beat the reference in a new training on new patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medkit.errors import InputError
from medkit.evaluation.verdict import Verdict, verdicts
from medkit.evaluation.verdict_runs import patient_values
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


def judged(found: StudyResults) -> list[Judged]:
    """Every method against the reference, point by point; p is corrected for the methods of a point."""
    reference = found.compare.get("reference")
    if reference is None:
        return []
    places: dict[tuple[str, ...], list[Measured]] = {}
    for measured in found.measured:
        places.setdefault(measured.place, []).append(measured)
    return [_judged(found.metric, place, mine, reference) for place, mine in places.items()]


def _judged(metric: str, place: tuple[str, ...], measured: Sequence[Measured], reference: str) -> Judged:
    higher = all(one.values[metric].higher_is_better for one in measured if metric in one.values)
    try:
        rows = [row for one in measured for row in value_rows(one, metric)]
        return Judged(place, verdicts(rows, reference, higher_is_better=higher))
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
