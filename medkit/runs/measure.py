"""Trained stages measured on splits of their data: at the end of a run, or of a finished one once more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medkit.engine.progress import Progress
from medkit.engine.runtime import Runtime
from medkit.errors import InputError
from medkit.evaluation.case_table import merge_cases
from medkit.evaluation.evaluate import Evaluation, Request, evaluate, write_results
from medkit.runs.external import refuse_living
from medkit.runs.folder import RunFolder
from medkit.runs.lock import locked
from medkit.runs.trainers import StageTrainer, trainer_of
from medkit.runs.workbench import Workbench


def measure(
    bench: Workbench, trainer: StageTrainer, metrics: Sequence[Any], split: str, progress: Progress
) -> Evaluation | None:
    """Predict the cases of ``split`` and measure them, with intervals and the report's pictures; None but on the main
    rank. Every rank takes its share of the cases."""
    stage, dataset = trainer.stage, bench.dataset(trainer.stage)
    cases, shown = dataset.cases(split), bench.recipe.report.maps.get("cases", 4)
    request = Request(dataset, cases, metrics, stage.name, split, stage.unit, examples=shown)
    predicted = trainer.predicted(cases, split, progress)
    with progress.task(f"{stage.name}: evaluating {split}", total=len(cases)) as advance:
        return evaluate(trainer.objective, request, bench.runtime, progress=advance, predicted=predicted)


def evaluate_again(
    run: str | Path, split: str, *, stage: str | None = None, device: str | None = None, allow_seen: str | None = None
) -> list[Evaluation]:
    """Evaluate finished stages (or one) on ``split`` and merge the numbers into the run's results.

    ``allow_seen`` says why the split may hold patients that were seen in training; it stands beside the results.

    Raises
    ------
    InputError
        if patients of the split were seen in training and nothing allows it.
    """
    folder = RunFolder.open(Path(run))
    with locked(folder, "evaluate"):
        refuse_living(folder.path)
        return _evaluate(folder, split, stage, device, allow_seen)


def _evaluate(
    folder: RunFolder, split: str, stage: str | None, device: str | None, allow_seen: str | None
) -> list[Evaluation]:
    recipe = folder.recipe()
    bench = Workbench(recipe, Runtime.start(device=device), folder)
    stages = [recipe.stage(stage)] if stage else [s for s in recipe.stages if folder.done(s.name)]
    if not stages:
        hint = f"'medkit resume {folder.path}' goes on with it"
        raise InputError("no stage of this run is finished", str(folder.path), hint)
    if allow_seen is not None and not allow_seen.strip():
        raise InputError("no reason is given", "--allow-seen", "say why; it stands beside the results")
    if allow_seen is None:
        for item in stages:
            cases = bench.dataset(item).cases(split)
            bench.seen.check(item, split, way_out="'--allow-seen REASON'")
            with Progress() as progress, progress.task(f"{item.name}: preparing", total=len(cases)) as advance:
                bench.dataset(item).prepare_all(cases, progress=advance, jobs=bench.jobs)
            bench.seen.check_images(item, [split])
    found = []
    for item in stages:
        dataset = bench.dataset(item)
        trainer = trainer_of(bench, item, bench.trained(item))
        with Progress() as progress:
            result = measure(bench, trainer, bench.metrics(item), split, progress)
        if result is None:  # not the rank that writes
            continue
        if doubt := dataset.doubtful():
            folder.add_notice(doubt)
        result = bench.seen.counted(item, result, allow_seen)
        write_results(folder.path, result)
        found.append(result)
    if bench.runtime.is_main:
        merge_cases(folder.path)
    return found
