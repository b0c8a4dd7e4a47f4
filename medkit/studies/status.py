"""How far a study has got, and how long the rest will take."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medkit.runs.cost import read_costs
from medkit.studies.folder import Outcome, StudyFolder
from medkit.studies.trials import Trial

FINISHED, FAILED, RUNNING, WAITING = "finished", "failed", "running", "waiting"


@dataclass
class Standing:
    """What each trial is doing, and the seconds that are left on one worker (None: not known yet)."""

    trials: dict[str, str]
    outcomes: dict[str, Outcome]
    seconds: float | None = None
    begun: Mapping[str, str] = field(default_factory=dict)

    def count(self, state: str) -> int:
        return sum(found == state for found in self.trials.values())

    @property
    def ended(self) -> int:
        return self.count(FINISHED) + self.count(FAILED)


def standing(folder: StudyFolder) -> Standing:
    """Where a study stands, read from its folder."""
    trials = folder.trials()
    outcomes = {trial.name: found for trial in trials if (found := folder.outcome(trial)) is not None}
    working = {path.parent.name for path in (folder.path / "claims").glob("*/run.lock")}
    states = {
        trial.name: outcomes[trial.name].status
        if trial.name in outcomes
        else RUNNING
        if trial.name in working
        else WAITING
        for trial in trials
    }
    return Standing(states, outcomes, seconds_left(folder, outcomes))


class Costs:
    """What stages have cost, by stage and method; for those that are not known the nearest ones stand in."""

    def __init__(self, expected: Mapping[str, Mapping[str, float]]) -> None:
        self.expected = expected
        self._seconds: dict[tuple[str, ...], list[float]] = {}

    def add(self, method: str, stage: str, point: Sequence[str], seconds: float) -> None:
        for key in ((method, stage, *point), (method, stage), (stage,)):
            self._seconds.setdefault(key, []).append(seconds)

    def of(self, method: str, stage: str, point: Sequence[str]) -> float | None:
        """Seconds of a stage: as measured at the point, else as expected beforehand, else as measured near it."""
        if found := self._seconds.get((method, stage, *point)):
            return statistics.median(found)
        if (said := self.expected.get(method, {}).get(stage)) is not None:
            return said
        for key in ((method, stage), (stage,)):
            if found := self._seconds.get(key):
                return statistics.median(found)
        return None


def seconds_left(folder: StudyFolder, outcomes: Mapping[str, Outcome]) -> float | None:
    """Seconds of work that are left, each stage that several trials share counted once; None before any is known."""
    trials = folder.trials()
    costs, beside, counted = Costs(folder.about().get("expected", {})), [], set()
    for trial in trials:
        if trial.name not in outcomes or outcomes[trial.name].status != FINISHED:
            continue
        spent = 0.0
        for stage, seconds in stage_seconds(folder, trial).items():
            if not folder.run_folder(trial).key(stage).get("from"):
                costs.add(trial.method, stage, _point(trial), seconds)
                counted.add(trial.stages[stage])
                spent += seconds
        beside.append(max(0.0, outcomes[trial.name].seconds - spent))
    if not beside and not costs.expected:
        return None
    left, each = 0.0, statistics.median(beside) if beside else 0.0
    for trial in trials:
        if trial.name in outcomes:
            continue
        left += each
        for stage, key in trial.stages.items():
            if key not in counted:
                counted.add(key)
                left += costs.of(trial.method, stage, _point(trial)) or 0.0
    return left


def _point(trial: Trial) -> list[str]:
    """The point without its seed, which costs nothing."""
    return [label for axis, label in trial.point.items() if axis != "seed"]


def stage_seconds(folder: StudyFolder, trial: Trial) -> dict[str, float]:
    """Seconds that each stage of a trial took to be trained and measured."""
    costs: dict[str, dict[str, Any]] = read_costs(folder.run_folder(trial))
    return {
        stage: found.get("train_seconds", 0.0) + found.get("evaluate_seconds", 0.0)
        for stage, found in costs.items()
        if stage in trial.stages
    }


def failures(folder: StudyFolder, names: Iterable[str], outcomes: Mapping[str, Outcome]) -> list[str]:
    """A line for each failed trial: why, and where its log is."""
    found = []
    for name in names:
        outcome = outcomes.get(name)
        if outcome is not None and outcome.status == FAILED:
            log = folder.path / "trials" / name / "log.txt"
            told = f"{outcome.error}; {outcome.hint}" if outcome.hint else outcome.error
            found.append(f"{name}: {told}" + (f" (log: {log})" if log.is_file() else ""))
    return found
