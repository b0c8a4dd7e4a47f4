"""Trained stages measured on splits of their data: at the end of a run, or again once it has finished."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medkit.engine.agreement import FailedTogether, together
from medkit.engine.progress import Progress
from medkit.engine.ranks import agreed
from medkit.engine.runtime import Runtime
from medkit.errors import ElsewhereError, InputError
from medkit.evaluation.case_table import merge_cases
from medkit.evaluation.evaluate import Evaluation, Request, evaluate, write_results
from medkit.paths import typed
from medkit.recipe import Stage
from medkit.runs import begun
from medkit.runs.external import refuse_living
from medkit.runs.folder import RunFolder
from medkit.runs.lock import locked_for_all
from medkit.runs.new_cases import NewCases, check_known
from medkit.runs.stage_trainer import StageTrainer
from medkit.runs.trainers import trainer_of
from medkit.runs.workbench import Workbench

REASON = "'--allow-seen REASON'"
SPACE_OR_REASON = f"{REASON} (or '--space NAME', if they are other people of the same names)"


def measure(
    bench: Workbench, trainer: StageTrainer, metrics: Sequence[Any], split: str, progress: Progress
) -> Evaluation | None:
    """Predict the cases of ``split`` and measure them, with intervals and the report's pictures; None except on the
    main rank. Every rank takes its share of the cases."""
    stage, dataset = trainer.stage, bench.dataset(trainer.stage)
    cases, shown = dataset.cases(split), bench.recipe.report.maps.get("cases", 4)
    features = trainer.features(cases, split, progress)
    request = Request(
        dataset, cases, metrics, stage.name, split, stage.unit, examples=shown, features=features, by_group=True
    )
    predicted = trainer.predicted(cases, split, progress)
    with progress.task(f"{stage.name}: evaluating {split}", total=len(cases)) as advance:
        return evaluate(trainer.objective, request, bench.runtime, progress=advance, predicted=predicted)


def evaluate_again(
    run: str | Path,
    split: str,
    *,
    stage: str | None = None,
    device: str | None = None,
    allow_seen: str | None = None,
    new: NewCases | None = None,
) -> list[Evaluation]:
    """Evaluate finished stages (or one) on ``split`` and merge the numbers into the run's results.

    On several ranks each takes its share of the cases, and the main one gets what was measured.
    ``allow_seen`` says why the split may hold patients that were seen in training; it is shown beside the results.
    With ``new`` cases the split is not one of the recipe, but the name for their results.

    Raises
    ------
    InputError
        if patients of the split were seen in training and nothing allows it.
    """
    runtime = Runtime.start(device=device)
    folder = agreed(runtime.strategy, lambda: RunFolder.open(Path(run)), "the run folder")
    try:
        with locked_for_all(folder, "evaluate", runtime):
            agreed(runtime.strategy, lambda: refuse_living(folder.path), "the programs of the run")
            bench = Workbench(agreed(runtime.strategy, folder.recipe, "the recipe"), runtime, folder)
            stages = agreed(runtime.strategy, lambda: _finished(bench, stage), "the stages")
            if new is None:
                agreed(runtime.strategy, lambda: check_known(folder, stages, split), "the split")
            else:
                bench, stages = agreed(runtime.strategy, lambda: _on(new, bench, stages, split), "the new cases")
            _check_seen(bench, stages, split, allow_seen, SPACE_OR_REASON if new else REASON)
            measured = [_evaluate(bench, item, split, allow_seen, new) for item in stages]
            found = [result for result in measured if result is not None]
            if runtime.is_main:
                merge_cases(folder.path)
            return found
    except FailedTogether as error:
        if runtime.is_main and error.__cause__ is not None:
            raise error.__cause__ from None
        raise ElsewhereError from error


def _finished(bench: Workbench, stage: str | None) -> list[Stage]:
    """The stages to evaluate."""
    folder, recipe = bench.folder, bench.recipe
    assert folder is not None
    stages = [recipe.stage(stage)] if stage else [item for item in recipe.stages if folder.done(item.name)]
    if not stages:
        hint = f"'medkit resume {typed(folder.path)}' continues it"
        raise InputError("no stage of this run is finished", str(folder.path), hint)
    return stages


def _on(new: NewCases, bench: Workbench, stages: Sequence[Stage], split: str) -> tuple[Workbench, list[Stage]]:
    """The workbench and the stages with new cases as their only split."""
    assert bench.folder is not None
    new.check(bench.folder, stages)
    if bench.runtime.world_size > 1:
        for stage in stages:  # only here are the cases that a stage was trained on
            trainer_of(bench, stage, bench.trained(stage)).check()
    recipe = new.instead(bench.recipe, stages, split)
    return Workbench(recipe, bench.runtime, bench.folder), [recipe.stage(one.name) for one in stages]


def _check_seen(bench: Workbench, stages: Sequence[Stage], split: str, allow_seen: str | None, way_out: str) -> None:
    """Refuse to test on patients seen in training; the cases are prepared for that, each rank doing its share."""
    runtime = bench.runtime
    if allow_seen is not None:
        if not allow_seen.strip():
            raise InputError("no reason is given", "--allow-seen", "say why; the reason is shown beside the results")
        return
    for stage in stages:
        dataset, what = bench.dataset(stage), f"the preparation of {stage.name}, {split}"
        agreed(runtime.strategy, partial(bench.seen.check, stage, split, way_out=way_out), what)
        with together(runtime, what), Progress(not runtime.is_main) as progress:
            mine = dataset.cases(split)[runtime.rank :: runtime.world_size]
            with progress.task(f"{stage.name}: preparing", total=len(mine)) as advance:
                dataset.prepare_all(mine, progress=advance, jobs=bench.jobs)
        with together(runtime, what):
            bench.seen.check_images(stage, [split])


def _evaluate(
    bench: Workbench, stage: Stage, split: str, allow_seen: str | None, new: NewCases | None
) -> Evaluation | None:
    """Measure one stage and record it; None except on the main rank."""
    assert bench.folder is not None
    what = f"stage {stage.name}"
    with together(bench.runtime, what):
        trainer, metrics = trainer_of(bench, stage, bench.trained(stage)), bench.metrics(stage)
        if bench.runtime.world_size > 1 and stage.train in bench.recipe.data[stage.data].splits:
            trainer.check()
    with Progress(not bench.runtime.is_main) as progress:
        result = measure(bench, trainer, metrics, split, progress)
    with together(bench.runtime, what):
        if result is None:
            return None
        for text in bench.dataset(stage).told():
            bench.folder.add_notice(text)
        if new is None and (other := begun.changed_since(bench, stage, split)):
            bench.folder.add_notice(other)
            print(f"medkit: {other}", file=sys.stderr)
        result = bench.seen.counted(stage, result, allow_seen)
        if new is not None:
            _refuse_uncounted(result, new)
            # Before the numbers, which may be all that there is if a later stage fails.
            new.record(bench.folder, stage.name, split)
        write_results(bench.folder.path, result)
        # What is measured later, perhaps by another version, is not what the run's key stands for.
        if known := bench.folder.key(stage.name):
            bench.folder.keep_key(stage.name, {name: kept for name, kept in known.items() if name != "results"})
    return result


def _refuse_uncounted(result: Evaluation, new: NewCases) -> None:
    """Refuse new cases of which no metric could count one: the manifest lacks what they compare with."""
    if result.values and not any(value.n for value in result.values.values()):
        rules = "; ".join(dict.fromkeys(f"{name}: {value.rule}" for name, value in result.values.items()))
        what = f"none of its cases can be counted by the metrics of stage '{result.stage}' ({rules})"
        raise InputError(what, str(new.manifest), "it needs the columns of labels or masks that the recipe reads")
