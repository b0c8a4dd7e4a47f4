"""A worker of a study: takes one trial after another that nobody else is working on, until none is left.

Workers know about each other through the study's folder alone, so it does not matter where they were started, how many
there are, and which of them are killed. A worker imports once and runs all of its trials in its process.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from medkit.errors import MedkitError
from medkit.guard import cause
from medkit.recipe import load_recipe
from medkit.runs.run import run
from medkit.runs.settings import RunSettings
from medkit.studies.claims import Claims
from medkit.studies.folder import Outcome, StudyFolder, shared
from medkit.studies.own_data import on_own_data
from medkit.studies.study import SEED
from medkit.studies.trials import Trial

POLL = 0.3  # seconds between two looks at what others are doing
MOST = 3  # times that a worker may be killed over one trial

Say = Callable[[str], None]


def work(folder: StudyFolder, settings: RunSettings, say: Say) -> None:
    """Run trials until each has ended, here or elsewhere, and no more are to come.

    If it is interrupted, the trial that was just running can be resumed.
    """
    with Claims(folder.path / "claims") as claims:
        while True:
            left = [trial for trial in folder.trials() if folder.outcome(trial) is None]
            if not left and not folder.is_open():
                return
            if not any(_tried(folder, trial, claims, settings, say) for trial in left):
                time.sleep(POLL)


def _tried(folder: StudyFolder, trial: Trial, claims: Claims, settings: RunSettings, say: Say) -> bool:
    """Run a trial, if no other worker is working on it, or on a stage that it shares with another trial."""
    several = shared(folder.trials())
    keys = [key for key in dict.fromkeys(trial.stages.values()) if key in several and not folder.trained(key)]
    with claims.of([trial.name, *sorted(keys)]) as held:
        if not held or folder.outcome(trial) is not None:
            return False
        claims.free(folder.run_folder(trial))
        outcome = _lost(folder, trial) or _attempt(folder, trial, settings, say)
        folder.keep_outcome(trial, outcome)
        if outcome.status == "finished":
            _look_at_own_data(folder, trial, settings, say)
        say(f"{trial.name}: {outcome.status}" + (f": {outcome.error}" if outcome.error else ""))
    return True


def _look_at_own_data(folder: StudyFolder, trial: Trial, settings: RunSettings, say: Say) -> None:
    """For the first seed, measure whether a trial beats the trivial answer on its own training data."""
    compare = folder.compared()
    if not compare or trial.kind != "trial" or trial.point.get(SEED) != folder.trials()[0].point.get(SEED):
        return
    try:
        found = on_own_data(folder, trial, compare[0], settings)
    except MedkitError as error:
        say(f"{trial.name}: not measured on its own training data: {error}")
    else:
        if found is not None:
            folder.write_json(f"own_data/{trial.name}.json", found.json())


def _lost(folder: StudyFolder, trial: Trial) -> Outcome | None:
    """A trial that shares a stage which failed in another one need not find out for itself."""
    failed = folder.failed_stages()
    for stage, key in trial.stages.items():
        if key in failed:
            other, error = failed[key]
            return Outcome("failed", f"stage '{stage}' is that of trial '{other}', where it failed: {error}")
    return None


def _attempt(folder: StudyFolder, trial: Trial, settings: RunSettings, say: Say) -> Outcome:
    place = folder.run_folder(trial)
    attempt = folder.count_attempt(trial, 1)
    if attempt > MOST:
        hint = "did it run out of memory? What its worker printed is in logs/"
        return Outcome("failed", f"a worker was killed over it {MOST} times", hint)
    place.remove_start()
    say(f"{trial.name}: {'continued' if place.begun else 'begun'}")
    begun = time.monotonic()
    try:
        run(load_recipe(folder.recipe_file(trial)), place.path, settings=settings)
    except KeyboardInterrupt:
        folder.count_attempt(trial, -1)
        raise
    except Exception as error:
        if not isinstance(error, MedkitError) and place.path.is_dir():
            place.log("".join(traceback.format_exception(error)).rstrip())
        return _failed(folder, trial, error, time.monotonic() - begun)
    return Outcome("finished", seconds=round(time.monotonic() - begun, 3))


def _failed(folder: StudyFolder, trial: Trial, error: Exception, seconds: float) -> Outcome:
    told = error if isinstance(error, MedkitError) else None
    state = folder.run_folder(trial).read_json("state.json", {}) if folder.run_folder(trial).begun else {}
    lost = {name: text for name, text in state.get("failed", {}).items() if not text.startswith("takes a part of")}
    stages = {trial.stages[name]: text for name, text in lost.items() if name in trial.stages}
    where = f"{told.where}: " if told is not None and told.where else ""
    text = f"{where}{told.what}" if told is not None else cause(error)
    return Outcome("failed", text, (told and told.hint) or "", round(seconds, 3), stages or None)


def settings_of(
    folder: StudyFolder, *, device: str | None, precision: str, threads: int, link: Sequence[Path] = ()
) -> RunSettings:
    """How a worker runs its trials: quietly, continuing what was begun, with stages shared within the study.

    ``link`` are folders of other studies, from which stages are taken too.
    """
    roots = [Path(path).resolve() for path in (folder.path, *link)]
    return RunSettings(
        precision=precision, device=device, quiet=True, resume=True, jobs=threads, link=roots, workers=None
    )
