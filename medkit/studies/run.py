"""A study run: planned, checked, queued, and watched until each trial has ended."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from medkit.engine.progress import Progress, rough_duration
from medkit.errors import InputError, RunError
from medkit.executors import Executor, Row, executor_of
from medkit.paths import cache_folder
from medkit.records import write_atomically
from medkit.runs.folder import RunFolder
from medkit.runs.lock import locked
from medkit.studies.checks import plan_and_check
from medkit.studies.fairness import check_fairness
from medkit.studies.folder import STUDY, TOKEN, StudyFolder
from medkit.studies.foresight import without_verdict
from medkit.studies.options import Options
from medkit.studies.search import check_attempts, check_search, run_search
from medkit.studies.search_begun import CHOSEN, asked
from medkit.studies.search_begun import KEPT as SEARCHED
from medkit.studies.seconds import KEPT, kept_paces, planned_apart
from medkit.studies.status import FAILED, failures, standing
from medkit.studies.study import Study
from medkit.studies.trials import Expansion, Trial

POLL = 0.5  # seconds between two looks at the trials
RESTARTS = 3  # of workers that end, time after time, without having ended a trial
FAREWELL = 30.0  # seconds that workers have to leave when nothing is left for them


def run_study(study: Study, out: Path, options: Options, progress: Progress) -> StudyFolder:
    """Run all trials of a study that have not yet succeeded, and wait for them.

    Raises
    ------
    InputError
        if the study, its data, the folder or the cluster are wrong; then nothing has been queued.
    RunError
        naming the trials that failed; all others have been run.
    """
    expansion = Expansion(study)
    folder = StudyFolder(out)
    known = kept_paces(folder.about(), study)
    # What a search chooses is not known yet, nor are epochs that have to fit into given seconds.
    settled = not study.search and not (study.compare and study.compare.seconds)
    folder.check(study, expansion.trials() if settled else [])
    executors = _executors(options)
    trials, checked, paces = plan_and_check(study, expansion, options, known)
    if not study.search:
        folder.check(study, trials)
    benches = {method: one.bench for method, one in checked.items()}
    fairness = check_fairness(study, benches)
    if study.search:
        check_search(study, {method: bench.recipe for method, bench in benches.items()})
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the output folder cannot be made: {error.strerror}", str(out)) from error
    with locked(RunFolder(out), "study run"):
        if study.search:
            check_attempts(study, folder, expansion)
        progress.log = folder.log
        said = {"options": {**asdict(options), "device": options.device}, "fairness": [asdict(row) for row in fairness]}
        said |= {SEARCHED: asked(study)} if study.search else {}
        said |= {KEPT: [asdict(one) for one in paces]} if paces else {}
        folder.write_plan(study, None if study.search else trials, said)
        folder.forget_failures()
        if options.on != "local":
            _confirm(folder, executors[0], options)
        progress.say(f"{study.name}: {len(trials)} trials, in {out}")
        for told in without_verdict(study, benches):
            progress.say(told)
        for one in paces:
            progress.say(
                f"{one.method}: {one.epochs} epochs of '{one.stage}' in {one.seconds:g} s, {one.epoch:.3g} s each"
            )
        for told in planned_apart(paces):
            progress.say(told)
        with Crew(folder, executors, options, progress) as crew:
            if study.search:
                trials = _searched(study, expansion, folder, crew)
            crew.through()
        _tell_end(folder, progress)
    return folder


def _searched(study: Study, expansion: Expansion, folder: StudyFolder, crew: Crew) -> list[Trial]:
    """Search hyper-parameters for each method, and plan the trials with what was chosen."""

    def run(attempts: Sequence[Trial]) -> None:
        folder.add(attempts, replace=False)
        crew.through()

    with folder.open_for_more():
        chosen = run_search(study, folder, run)
        for one in chosen:
            crew.progress.say(f"search: {one}")
        trials = expansion.trials({one.method: one.values for one in chosen})
        folder.check(study, trials)
        folder.add(trials, replace=False)
    folder.write_json(STUDY, {**folder.about(), CHOSEN: [one.plain() for one in chosen]})
    return trials


def _executors(options: Options) -> list[Executor]:
    """One for all workers; on this machine one for each, so that a worker that ends is restarted on its own."""
    if options.on == "local":
        return [executor_of("local", 1, options.slurm) for _ in range(options.jobs)]
    return [executor_of(options.on, options.jobs, options.slurm)]


def _environ(options: Options) -> dict[str, str]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(options.threads))
    return {**threads, "MEDKIT_CACHE": str(cache_folder().absolute())}


def _rows(folder: StudyFolder, options: Options, attempt: int) -> list[Row]:
    """The workers; each attempt has its own logs, so that none are lost when one is killed."""
    words = ["study", "work", str(folder.path.absolute()), "--threads", str(options.threads)]
    words += ["--precision", options.precision]
    words += ["--device", options.device] if options.device else []
    words += [word for file in options.plugins for word in ("--plugin", os.path.abspath(file))]
    words += [word for other in options.link for word in ("--link", os.path.abspath(other))]
    after = f"-{attempt}" if attempt > 1 else ""
    return [Row(f"worker{number}{after}", words, _environ(options)) for number in range(options.jobs)]


def _confirm(folder: StudyFolder, executor: Executor, options: Options) -> None:
    """Have a worker read a new file in the study's folder, and write next to it what it has read.

    Raises
    ------
    InputError
        if it does not see the folder, or sees another one under its name.
    """
    token = secrets.token_hex(8)
    answer = folder.path / f"{TOKEN}.seen"
    answer.unlink(missing_ok=True)
    write_atomically(folder.path / TOKEN, token.encode())
    words = ["study", "see", str(folder.path.absolute())]
    try:
        executor.start([Row("see", words, _environ(options))], folder.path / "logs")
        while executor.running():
            time.sleep(POLL)
    except KeyboardInterrupt:
        executor.leave()
        raise
    except RunError as error:  # a node that has no such folder, in Ray's words
        raise InputError(error.what, error.where, "choose an --out on a disk that all machines share") from error
    end = time.monotonic() + FAREWELL
    while not (answer.is_file() and answer.read_text(encoding="ascii", errors="replace") == token):
        if time.monotonic() > end:
            log = folder.path / "logs" / "see.log"
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
            what = "a worker does not see the study's folder" + (f" ({said[-1]})" if said else "")
            raise InputError(what, str(folder.path), "choose an --out on a disk that all machines share")
        with suppress(OSError):
            os.listdir(folder.path)  # network disks remember for a while what was not there
        time.sleep(POLL)


class Crew:
    """The workers of a study, kept at work for as long as the block lasts and interrupted with it."""

    def __init__(
        self, folder: StudyFolder, executors: Sequence[Executor], options: Options, progress: Progress
    ) -> None:
        self.folder, self.executors, self.options, self.progress = folder, executors, options, progress
        self._started = [0] * len(executors)
        self._watch = _Watch(folder, progress)
        self._ended_before = self._watch.look()[0]

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            end = time.monotonic() + FAREWELL
            while any(_running(executor) for executor in self.executors) and time.monotonic() < end:
                time.sleep(POLL / 5)
        for executor in self.executors:
            if kind is None and _running(executor):  # such as a task on a node that has gone
                executor.end()
            elif kind is not None and (told := executor.leave()):
                self.progress.say(told)

    def through(self) -> None:
        """Wait until every trial of the plan has ended."""
        with self.progress.task("trials", total=len(self.folder.trials())) as advance:
            while True:
                ended, left = self._watch.look()
                advance(ended, note=self._watch.note(self.options.jobs))
                if not left:
                    return
                self.folder.stay_open()
                self._keep_at_work(left, ended)
                time.sleep(POLL)

    def _keep_at_work(self, left: int, ended: int) -> None:
        """Start the workers of each executor that has none at work, up to as many as there are trials."""
        for number, executor in enumerate(self.executors):
            if number >= left or _running(executor):
                continue
            self._started[number] += 1
            rows = _rows(self.folder, self.options, self._started[number])
            mine = [rows[number]] if len(self.executors) > 1 else rows[: max(1, min(self.options.jobs, left))]
            if self._started[number] > RESTARTS + ended - self._ended_before:
                words = _last_words(self.folder, mine[0].name)
                raise RunError("workers end before any trial has", str(self.folder.path / "logs"), words)
            executor.start(mine, self.folder.path / "logs")


def _running(executor: Executor) -> bool:
    try:
        return executor.running()
    except RunError:  # a task was lost, with its node; its trial is taken up by another worker
        return True


def _last_words(folder: StudyFolder, name: str) -> str | None:
    log = folder.path / "logs" / f"{name}.log"
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return f"{log.name} ends with: {said[-1]}" if said else None


class _Watch:
    """Reports each trial's end once."""

    def __init__(self, folder: StudyFolder, progress: Progress) -> None:
        self.folder, self.progress = folder, progress
        self.standing = standing(folder)
        self._told = set(self.standing.outcomes)

    def look(self) -> tuple[int, int]:
        """How many trials have ended, and how many have not."""
        names = {trial.name for trial in self.folder.trials() if self.folder.outcome(trial) is not None}
        if names - self._told:
            self.standing = standing(self.folder)
            for line in failures(self.folder, sorted(names - self._told), self.standing.outcomes):
                self.progress.say(f"failed: {line}")
            self._told |= names
        return len(names), len(self.folder.trials()) - len(names)

    def note(self, jobs: int) -> str:
        left = self.standing.seconds
        return "" if left is None else f"about {rough_duration(left / max(1, jobs))} left"


def _tell_end(folder: StudyFolder, progress: Progress) -> None:
    found = standing(folder)
    failed = [name for name, state in found.trials.items() if state == FAILED]
    progress.say(f"{len(found.trials) - len(failed)} of {len(found.trials)} trials finished")


def check_end(folder: StudyFolder) -> None:
    """Raise RunError with a line for each trial that failed, if any did."""
    found = standing(folder)
    lines = failures(folder, found.trials, {**found.outcomes}) if found.count(FAILED) else []
    if lines:
        what = "\n".join([f"{len(lines)} of {len(found.trials)} trials failed; the report shows the others:", *lines])
        raise RunError(what, str(folder.path), "'medkit study run' again tries these again")
