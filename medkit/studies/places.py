"""The points of a study without their seeds: what was measured at each, and which of its trials were not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medkit.errors import some
from medkit.studies.results import Measured, StudyResults
from medkit.studies.status import FAILED
from medkit.studies.trials import Trial


@dataclass(frozen=True)
class Missing:
    """A planned trial without a result for the compared number, and ``why``: it failed, say."""

    trial: str
    method: str
    why: str


@dataclass(frozen=True)
class Place:
    labels: tuple[str, ...]
    measured: Sequence[Measured]
    missing: Sequence[Missing]


def places(found: StudyResults) -> list[Place]:
    """Every place that was planned, also one where nothing has been measured."""
    measured = {one.trial.name: one for one in found.measured}
    planned: dict[tuple[str, ...], list[Trial]] = {}
    for trial in found.trials:
        if trial.kind == "trial":
            planned.setdefault(trial.place, []).append(trial)
    return [
        Place(
            place,
            [measured[trial.name] for trial in trials if trial.name in measured],
            [Missing(t.name, t.method, _why(found, t)) for t in trials if t.name not in measured],
        )
        for place, trials in planned.items()
    ]


def _why(found: StudyResults, trial: Trial) -> str:
    outcome = found.outcomes.get(trial.name)
    if outcome is None:
        return "not measured yet"
    return "failed" if outcome.status == FAILED else f"without a result on '{found.compare.get('split')}'"


def told(missing: Sequence[Missing]) -> str:
    """Trials by name, the first few of each kind: ``'a-seed1', 'a-seed2' (failed); 'b-seed3' (not measured yet)``."""
    names: dict[str, list[str]] = {}
    for one in missing:
        names.setdefault(one.why, []).append(f"'{one.trial}'")
    return "; ".join(f"{some(mine)} ({why})" for why, mine in names.items())
