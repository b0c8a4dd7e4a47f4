"""A study examined before it is run: its trials, what they share, what methods are given, how long it will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medkit.engine.progress import rough_duration
from medkit.runs.pace import Pace, pace_of
from medkit.runs.workbench import Workbench
from medkit.studies.checks import plan_and_check
from medkit.studies.fairness import check_fairness, fairness_table
from medkit.studies.folder import StudyFolder, shared
from medkit.studies.foresight import without_verdict
from medkit.studies.options import Options, threads_of
from medkit.studies.seconds import kept_paces, paces_table, planned_apart
from medkit.studies.study import Study
from medkit.studies.tables import Table
from medkit.studies.trials import Expansion, Trial


@dataclass(frozen=True)
class DryStudy:
    """The plan of a study as tables, and in a sentence."""

    tables: Sequence[Table]
    summary: str
    seconds: float | None


def dry_study(study: Study, out: Path, options: Options) -> DryStudy:
    """Check a study, take a few steps of each method's stages, and write nothing.

    If it has been begun in the folder ``out``, the epochs that fit into given seconds are those that it has there.

    Raises
    ------
    InputError
        as :func:`medkit.studies.run.run_study` does before it queues anything.
    """
    known, jobs = kept_paces(StudyFolder(out).about(), study), options.jobs
    trials, checked, fitted = plan_and_check(study, Expansion(study), options, known)
    benches = {method: one.bench for method, one in checked.items()}
    fairness = check_fairness(study, benches)
    with threads_of(options):
        paces = {
            (method, stage.name): pace_of(bench, stage)
            for method, bench in benches.items()
            for stage in bench.recipe.stages
        }
    rows, total = _stages(trials, benches, paces)
    if total is not None:
        total += sum(checked[trial.method].seconds for trial in trials)  # each trial is checked again as it begins
    searched = study.search.trials * len(study.methods) if study.search else 0
    several = shared(trials)
    trainings = len({key for trial in trials for key in trial.stages.values()})
    asked = sum(len(trial.stages) for trial in trials)
    summary = f"{len(trials)} trials, {asked} stages of which {trainings} are trained and {asked - trainings} shared"
    if searched:
        summary += f", after a search of {searched} trials"
    if total is None:
        summary += "; how long it takes is not known: separate programs train some stages"
    else:
        summary += (
            f"; about {rough_duration(total / jobs)} with {jobs} {'worker' if jobs == 1 else 'workers'} like this one"
        )
    plan = Table("trials", ["method", *(axis.name for axis in study.axes), "trials"], _counts(study, trials))
    title = f"stages ({len(several)} are shared)"
    columns = ["stage", "method", "trials that have it", "trained", "seconds each"]
    tables = [plan, Table(title, columns, rows), fairness_table(fairness)]
    if fitted:
        tables.append(paces_table(fitted))
        summary = "\n".join([*planned_apart(fitted), summary])
    summary = "\n".join([summary, *without_verdict(study, benches)])
    return DryStudy(tables, summary, total)


def _counts(study: Study, trials: Sequence[Trial]) -> list[tuple[Any, ...]]:
    values = [", ".join(axis.values) for axis in study.axes]
    return [(method.name, *values, sum(trial.method == method.name for trial in trials)) for method in study.methods]


def _stages(
    trials: Sequence[Trial], benches: Mapping[str, Workbench], paces: Mapping[tuple[str, str], Pace | None]
) -> tuple[list[tuple[Any, ...]], float | None]:
    """A row for each method's stage, and the seconds of the whole study on one worker."""
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        for stage in trial.stages:
            groups.setdefault((stage, trial.method), []).append(trial)
    rows: list[tuple[Any, ...]] = []
    total: float | None = 0.0
    counted: set[str] = set()
    for (stage, method), mine in groups.items():
        pace, seconds = paces[method, stage], []
        keys = {trial.stages[stage]: trial for trial in mine}
        for key, trial in keys.items():
            if pace is None or trial.recipe is None:
                total = None
            else:
                one = pace.seconds(_bench(trial, benches[method]), trial.recipe.stage(stage))
                seconds.append(one)
                if total is not None and key not in counted:
                    total += one
            counted.add(key)
        shown = "–" if not seconds else _range(seconds)
        rows.append((stage, method, len(mine), len(keys), shown))
    return rows, total


def _bench(trial: Trial, like: Workbench) -> Workbench:
    assert trial.recipe is not None
    return Workbench(trial.recipe, like.runtime)


def _range(seconds: Sequence[float]) -> str:
    low, high = f"{min(seconds):.1f}", f"{max(seconds):.1f}"
    return low if low == high else f"{low} to {high}"
