"""A run: the stages of a recipe trained one after the other, evaluated and reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medkit.data.cases import union
from medkit.data.loader import DRAWN
from medkit.engine.checkpoint import save_weights
from medkit.engine.memory import shortage_told
from medkit.engine.progress import Progress
from medkit.engine.runtime import Runtime
from medkit.engine.stage import no_best, train_stage
from medkit.engine.thaw import stages_of
from medkit.errors import InputError, RunError
from medkit.evaluation.evaluate import evaluate, read_results, write_results
from medkit.paths import default_folder
from medkit.recipe import Recipe, Stage, check_round_trip, load_recipe
from medkit.registry.plugins import Hooks
from medkit.runs.checks import check_metric_names, check_predicts, check_trainable, check_turns
from medkit.runs.cost import Cost
from medkit.runs.external import is_external, refuse_ranks, work_of
from medkit.runs.folder import RunFolder, environment
from medkit.runs.handle import Run
from medkit.runs.rehearsal import rehearse
from medkit.runs.settings import RunSettings
from medkit.runs.workbench import Workbench

DEFAULT = RunSettings()

Report = Callable[[Path, Hooks], Path]
"""Writes the report of a run folder and returns its path."""


def run(
    recipe: Recipe | str | Path,
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
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe, set=set)
    if skip:
        recipe = recipe.without(skip)
    if seed is not None:
        recipe = recipe.with_seed(seed)
    check_round_trip(recipe)
    runtime = Runtime.start(device=settings.device, precision=settings.precision)
    path = Path(out) if out is not None else default_folder(recipe.name)
    if out is None and runtime.ranks > 1:
        raise InputError("a run on several ranks needs --out, so that all of them use one folder")
    bench = Workbench(recipe, runtime)
    _check(bench)
    folder = RunFolder(path)
    if runtime.main:
        folder = RunFolder.create(path)
        found = environment(runtime.description, settings.precision, runtime.ranks, recipe.seed)
        folder.start(recipe, {**found, "notices": bench.notices()})
    runtime.barrier()
    bench.folder = folder
    return _train(bench, folder, settings.quiet, report)


def resume(out: str | Path, settings: RunSettings = DEFAULT, report: Report | None = None) -> Run:
    """Go on with a run that was interrupted; finished stages are not trained again."""
    folder = RunFolder.open(Path(out))
    begun = folder.resumable()
    recipe = folder.recipe()
    runtime = Runtime.start(device=settings.device, precision=begun.get("precision", "fp32"))
    if runtime.ranks != begun.get("ranks", 1):
        raise InputError(
            f"the run was started on {begun.get('ranks', 1)} ranks and is resumed on {runtime.ranks}",
            str(folder.path),
            "resume it with the same --devices",
        )
    bench = Workbench(recipe, runtime, folder)
    bench.seen.check_all()
    _check_results(bench, folder)
    return _train(bench, folder, settings.quiet, report)


def _check_results(bench: Workbench, folder: RunFolder) -> None:
    """Refuse a folder that has lost results of a finished stage: its report would be silent about them."""
    results = read_results(folder.path) if folder.file("results.json").is_file() else {}
    for stage in bench.recipe.stages:
        if folder.done(stage.name):
            for split in bench.evaluated_splits(stage):
                if split not in results.get(stage.name, {}):
                    what = f"the results of finished stage '{stage.name}' on '{split}' are missing"
                    hint = f"'medkit evaluate {folder.path} --split {split}' measures them again"
                    raise RunError(what, str(folder.file("results.json")), hint)


def _check(bench: Workbench) -> None:
    """Build what every stage needs, so that mistakes are told before anything is written."""
    metrics = {stage.name: bench.metrics(stage) for stage in bench.recipe.stages}
    check_metric_names(bench.recipe, metrics)
    for stage in bench.recipe.stages:
        dataset = bench.dataset(stage)
        for split in _splits(stage, bench.evaluated_splits(stage)):
            dataset.cases(split)
        kept_metric(stage, metrics[stage.name])
        bench.augmentation(stage)
        objective = bench.objective(stage)
        check_turns(stage, objective)
        check_trainable(stage, objective)
        check_predicts(stage, objective)
        if is_external(objective):
            refuse_ranks(stage.name, bench.runtime.ranks)
        for name in getattr(objective, "needs", ()):
            if name not in dataset.fields:
                hint = f"write 'fields: [{name}]' there"
                raise InputError(f"stage '{stage.name}' needs '{name}' of every case", f"data.{stage.data}", hint)
        if stage.unfreeze is not None:
            stages_of(objective, stage.unfreeze.part)
        if not is_external(objective):
            stage.draw = bench.draw(stage, objective)  # into the run's recipe, so that a resumed run draws the same
    bench.seen.check_all()
    for stage in bench.recipe.stages:
        objective = bench.trained(stage)  # untrained here, for there is no folder yet
        if not is_external(objective):
            rehearse(bench, stage, objective, metrics[stage.name])


def _train(bench: Workbench, folder: RunFolder, quiet: bool, report: Report | None) -> Run:
    recipe, runtime = bench.recipe, bench.runtime
    run_ = Run(folder.path, recipe=recipe)
    failed = run_.failed
    first: RunError | None = None
    with Progress(quiet or not runtime.main, folder.log if runtime.main else None) as progress:
        hooks = Hooks(progress.say)
        if runtime.main:
            progress.say(f"{recipe.name}: {_count(recipe.stages)} on {runtime.description}, in {folder.path}")
        with _told_of(run_, hooks, runtime.main):
            for stage in recipe.stages:
                if folder.done(stage.name):
                    continue
                lost = [name for name in stage.takes_from() if name in failed]
                if lost:
                    failed[stage.name] = f"takes a part of '{lost[0]}', which failed"
                    progress.say(f"{stage.name}: left out, it {failed[stage.name]}")
                    continue
                try:
                    with _failures_told(stage):
                        _train_stage(bench, folder, stage, progress, run_, hooks)
                except RunError as error:
                    # One method of a comparison that fails shall not cost the others. Ranks would have to agree on it.
                    if runtime.ranks > 1:
                        raise
                    failed[stage.name], first = str(error), first or error
                    progress.say(f"{stage.name} failed: {error}")
                runtime.barrier()
            if runtime.main:
                folder.keep_failed(failed)
                if first is not None and not (folder.path / "results.json").exists():
                    raise first
                if not (folder.path / "results.json").exists():
                    folder.write_json("results.json", {})  # nothing but training and validation splits
                run_.results = read_results(folder.path)
                if report is not None:
                    progress.say(f"report: {report(folder.path, hooks)}")
                if failed:
                    raise _failure(failed, folder)
    runtime.barrier()
    return run_


@contextmanager
def _told_of(run_: Run, hooks: Hooks, main: bool) -> Iterator[None]:
    """Plugins hear of the run's start, and of its end however it ends, so that they can close what they have opened."""
    if not main:
        yield
        return
    hooks("medkit_run_start", run=run_)
    try:
        yield
        run_.status = "finished"
    except BaseException as error:
        run_.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        raise
    finally:
        hooks("medkit_run_end", run=run_)


@contextmanager
def _failures_told(stage: Stage) -> Iterator[None]:
    """Say what to do where memory does not suffice; wrong input found in mid-run is a failure of the run."""
    try:
        with shortage_told(stage.name):
            yield
    except InputError as error:
        raise RunError(error.what, error.where, error.hint) from error


def _count(stages: Sequence[Stage]) -> str:
    return f"{len(stages)} stages" if len(stages) != 1 else "one stage"


def _failure(failed: dict[str, str], folder: RunFolder) -> RunError:
    each = "\n".join(f"  {name}: {text}" for name, text in failed.items())
    what = f"not all stages were trained; the report shows the others:\n{each}"
    return RunError(what, str(folder.path), f"'medkit resume {folder.path}' tries again")


def _train_stage(
    bench: Workbench, folder: RunFolder, stage: Stage, progress: Progress, run_: Run, hooks: Hooks
) -> None:
    runtime = bench.runtime
    dataset = bench.dataset(stage)
    tested = bench.evaluated_splits(stage)
    objective = bench.objective(stage)
    external = is_external(objective)
    touched = tested if external else _splits(stage, tested)
    wanted = union([dataset.cases(split) for split in touched])
    with progress.task(f"{stage.name}: preparing", total=len(wanted)) as advance:
        dataset.prepare_all(wanted[runtime.rank :: runtime.ranks], progress=advance)
    runtime.barrier()
    if not external:  # another program's cases are not prepared
        bench.seen.look(stage)
    bench.seen.check_images(stage, tested)
    if runtime.main and (doubt := dataset.doubtful()):
        folder.add_notice(doubt)
        progress.say(f"{stage.name}: {doubt}")
    metrics = bench.metrics(stage)

    def log(line: dict[str, Any]) -> None:
        if runtime.main:
            folder.append_metrics(line)
            hooks("medkit_epoch_end", run=run_, stage=stage.name, epoch=line["epoch"], metrics=_numbers(line))

    def restarted(epoch: int) -> None:
        if runtime.main:
            folder.drop_metrics_after(stage.name, epoch)

    ledger = bench.seen.write(stage) if runtime.main else ""
    cost = Cost(folder, runtime.device, runtime.main)
    work = work_of(folder, stage.name, dataset, str(runtime.device), progress, log, restarted) if external else None
    with cost.of(stage.name, "train_seconds", work):
        if work is not None:
            with work.task(stage.name):
                progress.say(f"{stage.name}: {objective.ignores}")
                validate = dataset.cases(stage.validate) if stage.validate else []
                objective.train_cases(work, dataset.cases(stage.train), validate, stage.epochs, bench.recipe.seed)
        else:
            _train_here(bench, folder, stage, objective, metrics, progress, log, restarted)
    if not runtime.main:
        return
    for name, module in objective.parts().items():
        save_weights(folder.weights(stage.name, name), module, ledger)
    shown = bench.recipe.report.maps.get("cases", 4)
    for split in tested:
        cases = dataset.cases(split)
        with cost.of(stage.name, "evaluate_seconds", work):
            predicted = None
            if work is not None:
                with work.task(f"{stage.name}: predicting {split}"):
                    predicted = objective.predict_cases(work, cases, split)
            with progress.task(f"{stage.name}: evaluating {split}", total=len(cases)) as advance:
                found = evaluate(
                    objective,
                    dataset,
                    cases,
                    metrics,
                    stage=stage.name,
                    split=split,
                    unit=stage.unit,
                    device=runtime.device,
                    progress=advance,
                    examples=shown,
                    predicted=predicted,
                )
        found = bench.seen.counted(stage, found)
        write_results(folder.path, found)
        progress.say(f"{stage.name} {split}: {found.summary()}")
    folder.mark_done(stage.name)


def _train_here(
    bench: Workbench,
    folder: RunFolder,
    stage: Stage,
    objective: Any,
    metrics: Sequence[Any],
    progress: Progress,
    log: Callable[[dict[str, Any]], None],
    restarted: Callable[[int], None],
) -> None:
    """Train by the engine."""
    dataset = bench.dataset(stage)

    def validate(epoch: int) -> dict[str, float]:
        assert stage.validate is not None
        cases = dataset.cases(stage.validate)
        common: dict[str, Any] = {"stage": stage.name, "unit": stage.unit, "device": bench.runtime.device}
        found = evaluate(objective, dataset, cases, metrics, split=stage.validate, intervals=False, **common)
        return {f"{stage.validate}/{name}": value.value for name, value in found.values.items()}

    turns = [turn.name for turn in objective.turns()]
    if (draw := bench.draw(stage)) is not None:
        progress.say(f"{stage.name}: {DRAWN[draw]} (draw: {draw})")
    kept = kept_metric(stage, metrics)
    position = train_stage(
        objective,
        bench.loader(stage),
        name=stage.name,
        epochs=stage.epochs,
        optimizers={turn: block.build() for turn, block in stage.optimizers(turns).items()},
        schedules={turn: block.build() for turn, block in stage.schedules(turns).items()},
        unfreeze=stage.unfreeze,
        seed=bench.recipe.seed,
        runtime=bench.runtime,
        folder=folder.checkpoints(stage.name),
        progress=progress,
        log=log,
        on_resume=restarted,
        validate=validate if stage.validate and metrics else None,
        keep_best=kept,
    )
    if kept is not None and position.best_epoch is None and bench.runtime.main:
        folder.add_notice(no_best(stage.name, kept[0]))


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """What an epoch's line has measured: its numbers, without its place."""
    return {
        key: float(value)
        for key, value in line.items()
        if key != "epoch" and isinstance(value, int | float) and not isinstance(value, bool)
    }


def _splits(stage: Stage, tested: Sequence[str]) -> list[str]:
    """Every split a stage touches, once."""
    return list(dict.fromkeys([stage.train, *([stage.validate] if stage.validate else []), *tested]))


def kept_metric(stage: Stage, metrics: Sequence[Any]) -> tuple[str, bool] | None:
    """Key of the number that decides which epoch is best, and whether higher is better."""
    if stage.keep_best is None:
        return None
    wanted = stage.keep_best.metric
    named = [metric for metric in metrics if metric.name == wanted]  # rmse of [rmse_hu, rmse] is the second
    named += [m for block, m in zip(stage.metrics, metrics, strict=True) if block.entry.name == wanted]
    if named:
        return f"{stage.keep_best.split}/{named[0].name}", named[0].higher_is_better
    raise InputError(f"keep_best names '{stage.keep_best.metric}', which is no metric of stage '{stage.name}'")
