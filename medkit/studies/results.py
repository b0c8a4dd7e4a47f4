"""What a study has measured so far, read from the folders of its trials."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from medkit.errors import InputError
from medkit.evaluation.case_table import CaseTable
from medkit.evaluation.results import MetricValue, read_results, recorded
from medkit.evaluation.same_cases import Rows, by_case, unlike
from medkit.recipe import yaml as yaml_marks
from medkit.runs.cost import read_costs
from medkit.runs.folder import RunFolder
from medkit.runs.own_data import OwnData
from medkit.runs.seen import seen_on
from medkit.studies.folder import Outcome, StudyFolder
from medkit.studies.study import SEED
from medkit.studies.trials import Trial


@dataclass(frozen=True)
class Training:
    """A stage of a trial: trained there, or taken from another trial."""

    trial: str
    stage: str
    key: str
    """The stage's key; empty for a stage that has none."""
    linked: bool
    seconds: float
    peak_mb: float | None = None


@dataclass(frozen=True)
class Measured:
    """A finished trial's numbers for the compared stage and split."""

    trial: Trial
    values: Mapping[str, MetricValue]
    cases: Sequence[Mapping[str, Any]]
    seen: Sequence[str] = ()
    """Lines on patients tested who were seen in training."""

    @property
    def seed(self) -> str:
        return self.trial.point.get(SEED, "")

    @property
    def place(self) -> tuple[str, ...]:
        return self.trial.place


@dataclass(frozen=True)
class Summary:
    """One method at one point: the metric over seeds."""

    method: str
    place: tuple[str, ...]
    mean: float
    sd: float | None
    low: float
    high: float
    seeds: int
    seen: bool = False
    """Whether patients tested were seen in training."""


@dataclass
class StudyResults:
    """Everything that is known about a study: what its file says, and what its trials have left."""

    path: Path
    about: Mapping[str, Any]
    study: Mapping[str, Any]
    compare: Mapping[str, Any]
    trials: Sequence[Trial]
    outcomes: Mapping[str, Outcome]
    measured: Sequence[Measured]
    trainings: Sequence[Training]
    notices: Sequence[str] = field(default_factory=list)
    own_data: Mapping[str, OwnData] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, number: int = 0) -> StudyResults:
        """Read the folder of a study, for its first comparison or another one (``compare.also``).

        Raises
        ------
        InputError
            if methods were measured on different cases: then nothing can be said about their difference.
        """
        folder = StudyFolder.open(path)
        trials = folder.trials()
        study = yaml_marks.read(path / "study.yaml").plain()
        compare = (folder.compared() or [{}])[number]
        outcomes = {trial.name: found for trial in trials if (found := folder.outcome(trial)) is not None}
        finished = [
            t for t in trials if t.kind == "trial" and t.name in outcomes and outcomes[t.name].status == "finished"
        ]
        measured = [made for trial in finished if (made := _measured(folder, trial, compare)) is not None]
        other = list(_check_cases(measured, path, "data" in (compare.get("unequal") or {})))
        trainings = [line for trial in trials for line in _trainings(folder, trial)]
        notices = [*_notices(folder, finished), *other]
        own = {trial.name: OwnData.from_json(kept) for trial in finished if (kept := folder.own_data(trial))}
        return cls(path, folder.about(), study, compare, trials, outcomes, measured, trainings, notices, own)

    @cached_property
    def metric(self) -> str:
        """The compared metric, as it is recorded."""
        return recorded(self.compare.get("metric", ""), [name for found in self.measured for name in found.values])

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(trial.method for trial in self.trials))

    @property
    def axes(self) -> list[str]:
        """What varies besides methods and seeds."""
        return list(dict.fromkeys(axis for trial in self.trials for axis in trial.point if axis != SEED))

    def values(self) -> dict[tuple[str, tuple[str, ...]], list[float]]:
        """The metric of each seed, for each method and point."""
        groups: dict[tuple[str, tuple[str, ...]], list[float]] = {}
        for found in self.measured:
            if self.metric in found.values and math.isfinite(value := found.values[self.metric].value):
                groups.setdefault((found.trial.method, found.place), []).append(value)
        return groups

    def summaries(self) -> list[Summary]:
        """The metric over seeds, for each point and method."""
        seen = {(one.trial.method, one.place) for one in self.measured if one.seen}
        return [
            Summary(
                method,
                place,
                statistics.fmean(values),
                statistics.stdev(values) if len(values) > 1 else None,
                min(values),
                max(values),
                len(values),
                (method, place) in seen,
            )
            for (method, place), values in self.values().items()
        ]

    def twice(self) -> list[str]:
        """Stages that were trained by more than one trial although they have the same key."""
        first: dict[str, Training] = {}
        found = []
        for line in self.trainings:
            if line.key and not line.linked:
                other = first.setdefault(line.key, line)
                if other is not line:
                    found.append(f"'{line.stage}' by trials '{other.trial}' and '{line.trial}'")
        return found

    def elsewhere(self) -> list[Training]:
        """Stages that no trial of this study has trained: they were taken from another study."""
        here = {line.key for line in self.trainings if not line.linked}
        return [line for line in self.trainings if line.linked and line.key not in here]

    def cost(self) -> dict[str, tuple[float, float]]:
        """Seconds of each method's trainings as they were done here, and as they would be if nothing were shared."""
        found = {method: [0.0, 0.0] for method in self.methods}
        of = {trial.name: trial.method for trial in self.trials}
        for line in self.trainings:
            found[of[line.trial]][0] += 0.0 if line.linked else line.seconds
            found[of[line.trial]][1] += line.seconds
        return {method: (done, alone) for method, (done, alone) in found.items()}

    # -- tables ------------------------------------------------------------------------------------------------

    def trial_rows(self) -> list[dict[str, Any]]:
        """A row for each trial: its point, how it ended, its numbers."""
        measured = {found.trial.name: found for found in self.measured}
        rows = []
        for trial in self.trials:
            outcome = self.outcomes.get(trial.name)
            row: dict[str, Any] = {"trial": trial.name, "kind": trial.kind, "method": trial.method, **trial.point}
            row |= {"status": outcome.status if outcome else "not ended"}
            row |= {"seconds": outcome.seconds if outcome else ""}
            values = measured[trial.name].values if trial.name in measured else {}
            rows.append(row | {name: value.value for name, value in values.items()})
        return rows


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, with all columns that any of them has."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _measured(folder: StudyFolder, trial: Trial, compare: Mapping[str, Any]) -> Measured | None:
    stage, split = compare.get("stage"), compare.get("split")
    if stage is None or split is None:
        return None
    run = folder.run_folder(trial)
    values = read_results(run.path).get(stage, {}).get(split)
    if values is None:
        return None
    return Measured(trial, values, CaseTable.of_folder(run.path).of(stage, split), seen_on(run.path, stage, split))


def _check_cases(measured: Sequence[Measured], path: Path, unequal: bool) -> Iterator[str]:
    """Refuse to compare what was measured on different cases; what has to be told if it is compared.

    ``unequal``: the study says why methods get other data, so that other images of the same cases are only told.
    """
    first: dict[tuple[str, ...], tuple[str, Rows]] = {}
    hint = "a comparison needs the same ones; give both the same test split"
    for found in measured:
        cases = by_case(found.cases)
        name, others = first.setdefault(found.place, (found.trial.name, cases))
        those = f"trials '{name}' and '{found.trial.name}'"
        if odd := sorted(cases.keys() ^ others.keys()):
            what = f"{those} were measured on different cases (such as '{odd[0]}')"
            raise InputError(what, str(path), hint)
        if told := unlike(others, cases, images=not unequal):
            raise InputError(f"{those} were measured on different cases: {told}", str(path), hint)
        if told := unlike(others, cases):
            yield f"{those}: {told}. The study says why methods get other data."


def _trainings(folder: StudyFolder, trial: Trial) -> Iterator[Training]:
    run = folder.run_folder(trial)
    if not run.begun:
        return
    costs = read_costs(run)
    for stage in trial.stages:
        if run.done(stage):
            record, cost = run.key(stage), costs.get(stage, {})
            seconds = cost.get("train_seconds", 0.0) + cost.get("evaluate_seconds", 0.0)
            linked = bool(record.get("from"))
            yield Training(trial.name, stage, record.get("training", ""), linked, seconds, cost.get("peak_mb"))


def _notices(folder: StudyFolder, trials: Sequence[Trial]) -> list[str]:
    """What is shown above the results of each trial's run, each once."""
    found = []
    for trial in trials:
        run: RunFolder = folder.run_folder(trial)
        found += run.read_json("environment.json", {}).get("notices", [])
    return list(dict.fromkeys(found))
