"""What is checked before a trial of a study is queued: data, patients, and one rehearsal of each method."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medkit.engine.runtime import Runtime
from medkit.errors import InputError, MedkitError
from medkit.runs.preflight import check_run
from medkit.runs.stage_key import digest
from medkit.runs.workbench import Workbench
from medkit.studies.folder import StudyFolder
from medkit.studies.options import Options, threads_of
from medkit.studies.seconds import Paced, as_changes, measured_paces
from medkit.studies.study import Study
from medkit.studies.trials import Expansion, Trial


@dataclass(frozen=True)
class Checked:
    """The workbench of a method's first trial, and the seconds that its checks took."""

    bench: Workbench
    seconds: float


def plan_and_check(
    study: Study, expansion: Expansion, options: Options, known: Sequence[Paced] = ()
) -> tuple[list[Trial], dict[str, Checked], list[Paced]]:
    """The trials of a study, checked; with the epochs that fit if methods get the same seconds.

    ``known`` are paces that need not be measured again.

    Raises
    ------
    InputError
        naming the trial, or a folder to take stages from that is not a study's.
    """
    for other in options.link:
        StudyFolder.open(Path(other))
    trials = expansion.trials(as_changes(known, study.compare))
    checked = check_trials(trials, options.device, options.precision)
    with threads_of(options):
        paces = measured_paces(study, {method: one.bench for method, one in checked.items()}, known)
    if not paces:
        return trials, checked, paces
    for one in paces:
        if one.method in checked:
            checked[one.method].bench.recipe.stage(one.stage).epochs = one.epochs
    return expansion.trials(as_changes(paces, study.compare)), checked, paces


def check_trials(trials: Sequence[Trial], device: str | None, precision: str) -> dict[str, Checked]:
    """Try the first trial of each method, and check the data of all.

    Returns
    -------
    dict
        what was checked, by method; the recipes there say how slices are drawn.

    Raises
    ------
    InputError
        naming the trial.
    """
    runtime = Runtime.start(device=device, precision=precision)
    found: dict[str, Checked] = {}
    seen: set[str] = set()
    for trial in trials:
        assert trial.recipe is not None
        bench = Workbench(trial.recipe, runtime)
        try:
            if trial.method not in found:
                begun = time.monotonic()
                for error in check_run(bench).values():
                    raise error
                found[trial.method] = Checked(bench, time.monotonic() - begun)
            _check_data(bench, seen)
        except MedkitError as error:
            raise InputError(f"trial '{trial.name}': {error.what}", error.where, error.hint) from error
    return found


def _check_data(bench: Workbench, seen: set[str]) -> None:
    """Cases of every split that a trial trains and is tested on; each selection is checked once."""
    data = bench.recipe.resolved()["data"]
    for stage in bench.recipe.stages:
        splits = stage.splits(bench.evaluated_splits(stage))
        key = digest([data[stage.data], [str(split) for split in splits], stage.fraction, bench.recipe.seed])
        if key not in seen:
            seen.add(key)
            dataset = bench.dataset(stage)
            for split in splits:
                dataset.cases(split)
            if stage.fraction is not None:
                bench.cases.check_fraction(stage, bench.trained(stage))
