"""A dry run: everything built, one batch a stage trained and predicted, nothing written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medkit.engine.memory import shortage_told
from medkit.engine.runtime import Runtime
from medkit.recipe import Recipe, Stage, load_recipe
from medkit.runs.checks import check_predicts, check_turns
from medkit.runs.trainers import trainer_of
from medkit.runs.workbench import Workbench

COLUMNS = ("stage", "training batch", "predicts", "trainable", "frozen", "seconds", "peak GB")


def dry_run(
    recipe: Recipe | str | Path,
    *,
    set: Sequence[str] = (),
    skip: Sequence[str] = (),
    device: str | None = None,
    precision: str = "fp32",
) -> tuple[Sequence[str], list[tuple[Any, ...]]]:
    """Build every stage and put one batch through it; returns a table's columns and rows.

    Parts taken from earlier stages are untrained ones here. Peak memory is that of the process during the stage (on
    Linux, where counting can start over), or the GPU's.
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe, set=set)
    if skip:
        recipe = recipe.without(skip)
    runtime = Runtime.start(device=device, precision=precision)
    bench = Workbench(recipe, runtime)
    bench.seen.check_all()
    rows = []
    for stage in recipe.stages:
        with shortage_told(stage.name):
            rows.append(_row(bench, stage))
    return COLUMNS, rows


def _row(bench: Workbench, stage: Stage) -> tuple[Any, ...]:
    """Put one batch through a stage."""
    objective = bench.objective(stage)
    check_turns(stage, objective)
    check_predicts(stage, objective)
    trainer = trainer_of(bench, stage, objective)
    begun = time.monotonic()
    trainer.meter.restart()
    trial = trainer.try_out()
    seconds, peak = f"{time.monotonic() - begun:.1f}", trainer.meter.peak
    held = "–" if peak is None else f"{peak / 1024:.2f}"
    return stage.name, trial.batch, trial.predicts, trial.trainable, trial.frozen, seconds, held
