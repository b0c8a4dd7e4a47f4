"""A run: the stages of a recipe trained one after the other, evaluated and reported."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from medkit.engine import interrupt
from medkit.engine.agreement import FailedTogether, known_to_all
from medkit.engine.events import Events, RunEnded, RunStarted, StageEnded, StageFailed
from medkit.engine.memory import shortage_told
from medkit.engine.messages import LostRank
from medkit.engine.progress import Progress
from medkit.engine.ranks import agreed
from medkit.engine.runtime import Runtime
from medkit.errors import InputError, MedkitError, RunError
from medkit.evaluation.case_table import merge_cases
from medkit.evaluation.evaluate import read_results
from medkit.guard import cause
from medkit.paths import default_folder, typed
from medkit.recipe import Recipe, Stage, check_round_trip, load_recipe, recipe_from
from medkit.registry.plugins import Hooks
from medkit.runs import begun
from medkit.runs.difference import refuse_another
from medkit.runs.external import refuse_living
from medkit.runs.folder import RunFolder, environment
from medkit.runs.handle import Results, Run
from medkit.runs.links import wanted
from medkit.runs.listeners import AskHooks, ShowProgress, WriteMetrics
from medkit.runs.lock import locked_for_all
from medkit.runs.lost import check_results, lost_epochs, without_weights
from medkit.runs.preflight import check_run
from medkit.runs.settings import RunSettings
from medkit.runs.stage_run import Session, run_stage
from medkit.runs.stress import check_denoisers
from medkit.runs.time_left import TimeLeft, works_of
from medkit.runs.trackers import Trackers, listeners_of_plugins
from medkit.runs.workbench import Workbench

DEFAULT = RunSettings()

Report = Callable[[Path, Hooks], Path]
"""Writes the report of a run folder and returns its path."""


def run(
    recipe: Recipe | Mapping[str, Any] | BaseModel | str | Path,
    out: str | Path | None = None,
    *,
    set: Sequence[str] = (),
    skip: Sequence[str] = (),
    seed: int | None = None,
    settings: RunSettings = DEFAULT,
    report: Report | None = None,
) -> Run:
    """Train and evaluate every stage of ``recipe``; :func:`medkit.run` explains the arguments.

    ``report`` is asked for a report at the end.
    """
    runtime = Runtime.start(device=settings.device, precision=settings.precision)
    recipe = agreed(runtime.strategy, lambda: _recipe(recipe, set, skip, seed), "the recipe")
    if out is None and (runtime.world_size > 1 or settings.resume):
        why = "the run to resume" if settings.resume else "several ranks, so that all of them use one folder"
        raise InputError(f"no run folder is given for {why}", "--out")
    folder = RunFolder(Path(out) if out is not None else default_folder(recipe.name))
    if settings.resume and runtime.strategy.share(folder.begun, "whether a run was begun"):
        agreed(runtime.strategy, lambda: refuse_another(folder, recipe, settings.precision), "the run folder")
        return resume(folder.path, settings, report)
    agreed(runtime.strategy, lambda: folder.refuse_used() if runtime.is_main else None, "the run folder")
    trackers = agreed(runtime.strategy, lambda: Trackers(settings.track), "the trackers")
    bench = Workbench(recipe, runtime, jobs=settings.jobs, workers=settings.workers)
    broken = _broken_anywhere(runtime, agreed(runtime.strategy, lambda: check_run(bench), "the check of the run"))
    agreed(runtime.strategy, lambda: RunFolder.create(folder.path) if runtime.is_main else None, "the run folder")
    with locked_for_all(folder, "run", runtime):
        if runtime.is_main:
            found = environment(runtime.description, settings.precision, runtime.world_size, recipe.seed)
            folder.start(recipe, {**found, "notices": bench.notices(), "track": trackers.plain()})
        runtime.strategy.barrier("the start of the run")
        bench.folder = folder
        return _through(bench, folder, settings, report, trackers, broken)


def _broken_anywhere(runtime: Runtime, broken: Mapping[str, RunError]) -> dict[str, RunError]:
    """The stages whose rehearsal failed on any rank, known to all: one rank alone may be out of memory."""
    what = "the rehearsal of stages"
    told = {name: (error.what, error.where, error.hint) for name, error in broken.items()}
    each = runtime.strategy.gather(told, what)
    known = runtime.strategy.share({name: text for found in each for name, text in found.items()}, what)
    return {name: broken.get(name) or RunError(*text) for name, text in known.items()}


def _recipe(
    recipe: Recipe | Mapping[str, Any] | BaseModel | str | Path,
    set: Sequence[str],
    skip: Sequence[str],
    seed: int | None,
) -> Recipe:
    if isinstance(recipe, Mapping | BaseModel):
        recipe = recipe_from(recipe, set=set)
    elif not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe, set=set)
    if skip:
        recipe = recipe.without(skip)
    if seed is not None:
        recipe = recipe.with_seed(seed)
    check_round_trip(recipe)
    return recipe


def resume(out: str | Path, settings: RunSettings = DEFAULT, report: Report | None = None) -> Run:
    """Continue an interrupted run; finished stages are not trained again."""
    runtime = Runtime.start(device=settings.device)
    folder, begun = agreed(runtime.strategy, lambda: _opened(Path(out), runtime.world_size), "the run folder")
    runtime = agreed(runtime.strategy, lambda: runtime.with_precision(begun.get("precision", "fp32")), "the precision")
    with locked_for_all(folder, "resume", runtime):
        agreed(runtime.strategy, lambda: refuse_living(folder.path), "the programs of the run")
        if runtime.is_main:
            folder.remove_unfinished()
        trackers = agreed(
            runtime.strategy, lambda: Trackers([*begun.get("track", []), *settings.track]), "the trackers"
        )
        bench = agreed(runtime.strategy, lambda: _checked(folder, runtime, settings), "the check of the run")
        if runtime.is_main and trackers.plain() != begun.get("track", []):
            folder.write_json("environment.json", {**begun, "track": trackers.plain()})
        return _through(bench, folder, settings, report, trackers)


def _opened(path: Path, world_size: int) -> tuple[RunFolder, dict[str, Any]]:
    """A run folder that can be continued on this many ranks, and how it was begun."""
    folder = RunFolder.open(path)
    begun = folder.resumable()
    if world_size != begun.get("ranks", 1) and (left := folder.bound_to_ranks()):
        raise InputError(
            f"the run was started on {begun.get('ranks', 1)} ranks and is resumed on {world_size}",
            str(folder.path),
            f"resume it with the same --devices; only stages with 'shard' may change it, and '{left[0]}' has none",
        )
    return folder, begun


def _checked(folder: RunFolder, runtime: Runtime, settings: RunSettings) -> Workbench:
    bench = Workbench(folder.recipe(), runtime, folder, jobs=settings.jobs, workers=settings.workers)
    check_denoisers(bench)
    bench.seen.check_all()
    check_results(bench, folder)
    return bench


def _through(
    bench: Workbench,
    folder: RunFolder,
    settings: RunSettings,
    report: Report | None,
    trackers: Trackers,
    broken: Mapping[str, Exception] | None = None,
) -> Run:
    """Go through all stages that are not done.

    ``broken`` are those whose rehearsal failed, and how; a resumed run (None) rehearses nothing.
    """
    interrupt.clear()
    main = bench.runtime.is_main
    run_ = Run(folder.path, recipe=bench.recipe)
    with Progress(settings.quiet or not main, folder.log if main else None) as progress:
        hooks = Hooks(progress.say)
        events = Events(warn=progress.say)
        if main:
            left = TimeLeft(works_of(bench, [s for s in bench.recipe.stages if not folder.done(s.name)]))
            own = [ShowProgress(progress, left), WriteMetrics(folder), AskHooks(hooks, run_)]
            events = Events([*trackers.listeners, *listeners_of_plugins(hooks, run_)], progress.say, own)
        session = Session(bench, folder, progress, events, wanted(settings.link))
        what = f"{bench.recipe.name}: {_count(bench.recipe.stages)}"
        with _told_of(session, run_, resumed=broken is None):
            session.say(f"{what} on {bench.runtime.description}, in {folder.path}")
            if broken is None:
                agreed(bench.runtime.strategy, lambda: _tell_changes(session), "a look at what has changed since")
            errors = _stages(session, run_, broken or {})
            agreed(bench.runtime.strategy, lambda: _finish(session, run_, errors, hooks, report), "the report")
    return run_


def _tell_changes(session: Session) -> None:
    """Say, and keep for the report, what has changed in a resumed run since its stages started or finished."""
    if not session.main:
        return
    folder, stages = session.folder, session.bench.recipe.stages
    for text in [*begun.changes(session.bench), lost_epochs(folder, stages)]:
        if text:
            folder.add_notice(text)
            session.say(text)
    if text := without_weights(folder, stages):
        session.say(text)  # no word in the report, which does not need them


def _stages(session: Session, run_: Run, broken: Mapping[str, Exception]) -> list[RunError]:
    """Train the stages in turn; one that fails takes along only those that use a part of it. Returns what failed."""
    folder, errors = session.folder, []
    if session.main:
        folder.keep_failed({})
    stages = session.bench.recipe.stages
    for number, stage in enumerate(stages, 1):
        if folder.done(stage.name):
            continue
        if len(stages) > 1:
            session.say(f"stage {number} of {len(stages)}: {stage.name}")
        lost = [name for name in stage.takes_from() if name in run_.failed]
        if lost:
            run_.failed[stage.name] = f"takes a part of '{lost[0]}', which failed"
            session.say(f"{stage.name}: left out, it {run_.failed[stage.name]}")
        elif (error := _attempt(session, stage, broken.get(stage.name))) is not None:
            errors.append(error)
            run_.failed[stage.name] = str(error)
            session.say(f"{stage.name} failed: {error}")
        if stage.name in run_.failed:
            session.events.emit(StageFailed(stage.name, run_.failed[stage.name]))
            if session.main:
                folder.keep_failed(run_.failed)
        session.bench.runtime.strategy.barrier(f"the end of stage {stage.name}")
    return errors


def _attempt(session: Session, stage: Stage, broken: Exception | None) -> RunError | None:
    """Train a stage; returns what made it fail, if it did and every rank knows about it."""
    try:
        if broken is not None:
            raise broken
        metrics = run_stage(session, stage)
    except LostRank:
        raise  # whatever stage is next, that rank would be missing there too
    except Exception as error:
        told = _told(session, stage, error)
        if isinstance(error, FailedTogether) and error.met:
            return told
        return known_to_all(told, session.bench.runtime, f"the failure of stage {stage.name}")
    session.events.emit(StageEnded(stage.name, metrics))
    return None


def _told(session: Session, stage: Stage, error: Exception) -> RunError:
    """A stage's failure as people read it; ``log.txt`` gets the traceback."""
    if isinstance(error, FailedTogether) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if not isinstance(error, MedkitError) or error.__cause__ is not None:
        session.folder.log(f"{stage.name}:\n{''.join(traceback.format_exception(error)).rstrip()}")
    try:
        # What to do if memory does not suffice.
        with shortage_told(stage.name):
            raise error
    except RunError as known:
        return known
    except InputError as wrong:  # found in mid-run: the run has failed, whatever the input
        return RunError(wrong.what, wrong.where, wrong.hint)
    except Exception as other:
        hint = f"the traceback is in {session.folder.file('log.txt')}"
        if "more than 1 value per channel" in str(other):  # torch, for one image whose deepest map is one pixel
            hint = f"batch normalisation needs more than one value: use a larger 'batch' or larger images; {hint}"
        return RunError(cause(other), f"stage {stage.name}", hint)


def _finish(session: Session, run_: Run, errors: Sequence[RunError], hooks: Hooks, report: Report | None) -> None:
    """Write the report, on what was measured and on what failed."""
    if not session.main:
        return
    folder = session.folder
    measured = folder.file("results.json").exists()
    if not measured and not errors:
        folder.write_json("results.json", {})  # nothing but training and validation splits
    merge_cases(folder.path)
    if measured or not errors:
        run_.results = Results(read_results(folder.path))
    if report is not None:
        session.say(f"report: {report(folder.path, hooks)}")
    if errors:
        raise _failure(run_.failed, folder) if measured else errors[0]


@contextmanager
def _told_of(session: Session, run_: Run, resumed: bool) -> Iterator[None]:
    """Listeners hear about the run's start and, however it ends, about its end: they can close what they opened."""
    runtime = session.bench.runtime
    session.events.emit(
        RunStarted(
            name=run_.recipe.name,
            folder=run_.folder.resolve(),
            recipe=run_.recipe.resolved(),
            seed=run_.recipe.seed,
            device=runtime.description,
            precision=runtime.precision,
            world_size=runtime.world_size,
            resumed=resumed,
        )
    )
    try:
        yield
        run_.status = "finished"
    except BaseException as error:
        run_.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        if isinstance(error, KeyboardInterrupt) and session.main:
            session.folder.log(f"interrupted by {interrupt.asked_by() or 'Ctrl-C'}")
        raise
    finally:
        assert run_.status != "running"
        session.events.emit(RunEnded(run_.status))


def _count(stages: Sequence[Stage]) -> str:
    return f"{len(stages)} stages" if len(stages) != 1 else "one stage"


def _failure(failed: Mapping[str, str], folder: RunFolder) -> RunError:
    each = "\n".join(f"  {name}: {text}" for name, text in failed.items())
    what = f"not all stages were trained; the report shows the others:\n{each}"
    return RunError(what, str(folder.path), f"'medkit resume {typed(folder.path)}' tries again")
