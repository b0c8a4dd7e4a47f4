"""What each factor of a crossed study does: the difference between runs with it and runs without it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medkit.engine.gradients import COSINE
from medkit.errors import InputError
from medkit.evaluation import files
from medkit.evaluation.verdict import Verdict, verdict
from medkit.evaluation.verdict_result import corrected, marked
from medkit.studies.factorial import Plan, plan_of
from medkit.studies.folder import StudyFolder
from medkit.studies.judge import Judged, higher, tried, value_rows
from medkit.studies.places import places
from medkit.studies.results import Measured, StudyResults
from medkit.studies.study import SEED


def plan_in(study: Mapping[str, Any]) -> Plan | None:
    """The plan of a crossed study, from its file."""
    cross = study.get("cross")
    return None if cross is None else plan_of(list(cross["factors"]))


def effects(found: StudyResults) -> list[Judged]:
    """For each point, each factor's effect: the mean of the runs with it minus that of those without it, over seeds and
    patients. By design it is free of all other factors' effects, and of two-factor interactions. p is corrected for the
    factors of a point."""
    plan = plan_in(found.study)
    if plan is None:
        return []

    def of(mine: Sequence[Measured]) -> list[Verdict]:
        values = _values(found.metric, plan, mine)
        each = [_effect(factor, values, higher(found)) for factor in plan.factors]
        seen = [line for one in mine for line in one.seen]
        return marked(corrected(each, comparisons=len(each)), dict.fromkeys(plan.factors, seen))

    return [Judged(at.labels, *tried(of, at), at.missing) for at in places(found)]


Values = dict[tuple[str, ...], dict[tuple[str, str], float]]
"""For each run of a plan, by its factors: the value of each seed and patient."""


def _values(metric: str, plan: Plan, measured: Sequence[Measured]) -> Values:
    runs = {plan.name(run): run for run in plan.runs}
    cells: dict[tuple[str, ...], dict[tuple[str, str], list[float]]] = {run: {} for run in plan.runs}
    for one in measured:
        for row in value_rows(one, metric):
            key = (str(row[SEED]), str(row["patient"]))
            cells[runs[one.trial.method]].setdefault(key, []).append(row["value"])
    found = {run: {key: statistics.fmean(several) for key, several in mine.items()} for run, mine in cells.items()}
    wanted = {key for mine in found.values() for key in mine}
    for run, mine in found.items():
        if missing := wanted - set(mine):
            seed, patient = sorted(missing)[0]
            what = f"run '{plan.name(run)}' of the plan lacks seed {seed}, patient {patient}"
            raise InputError(what, None, "effects need all runs")
    return found


def _effect(factor: str, values: Values, higher_is_better: bool) -> Verdict:
    rows = []
    names = {True: factor, False: f"without {factor}"}
    for having, name in names.items():
        runs = [mine for run, mine in values.items() if (factor in run) == having]
        for seed, patient in runs[0]:
            mean = statistics.fmean(mine[seed, patient] for mine in runs)
            rows.append({"method": name, SEED: seed, "patient": patient, "value": mean})
    return verdict(rows, names[True], names[False], higher_is_better=higher_is_better)


@dataclass(frozen=True)
class Conflict:
    """The cosine between the gradients of two tasks on what they share, over the trainings that had both."""

    tasks: tuple[str, str]
    mean: float
    low: float
    high: float
    trainings: int


def conflicts(folder: StudyFolder) -> list[Conflict]:
    """Cosines logged by PCGrad, from the last epoch of every training that was not taken from another trial."""
    found: dict[tuple[str, str], list[float]] = {}
    for trial in folder.trials():
        run = folder.run_folder(trial)
        last: dict[str, dict[str, Any]] = {}
        for line in files.read_lines(run.file("metrics.jsonl")):
            last[line["stage"]] = line
        for stage, line in last.items():
            if run.key(stage).get("from"):
                continue
            for key, value in line.items():
                _, is_cosine, tasks = key.partition(f"/{COSINE}")
                if is_cosine and value is not None:
                    one, _, other = tasks.partition("~")
                    found.setdefault((one, other), []).append(value)
    return [
        Conflict(tasks, statistics.fmean(values), min(values), max(values), len(values))
        for tasks, values in found.items()
    ]
