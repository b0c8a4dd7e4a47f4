"""A dry run: everything built, one batch per stage trained on and predicted, nothing written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medkit.engine.memory import shortage_told
from medkit.engine.optimizers import parameter_groups, table
from medkit.engine.runtime import Runtime
from medkit.recipe import Recipe, Stage, load_recipe
from medkit.runs.checks import check_predicts, check_turns
from medkit.runs.metric_checks import check_metrics
from medkit.runs.trainers import trainer_of
from medkit.runs.workbench import Workbench

COLUMNS = ("stage", "training batch", "predicts", "trainable", "frozen", "seconds", "peak GB")


GROUP_COLUMNS = ("stage", "group", "tensors", "weights", "decay", "times the rate")


@dataclass
class DryRun:
    """What became of a batch of each stage (``COLUMNS``), and the groups of weights, if there are several."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    groups: list[tuple[Any, ...]] = field(default_factory=list)


def dry_run(
    recipe: Recipe | str | Path,
    *,
    set: Sequence[str] = (),
    skip: Sequence[str] = (),
    device: str | None = None,
    precision: str = "fp32",
) -> DryRun:
    """Build every stage and put one batch through it.

    Parts taken from earlier stages are untrained here. Peak memory is that of the process during the stage (on
    Linux, where counting can start over), or the GPU's.
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe, set=set)
    if skip:
        recipe = recipe.without(skip)
    runtime = Runtime.start(device=device, precision=precision)
    bench = Workbench(recipe, runtime)
    check_metrics(bench)
    bench.seen.check_all()
    found = DryRun()
    for stage in recipe.stages:
        with shortage_told(stage.name):
            _try(bench, stage, found)
    return found


def _try(bench: Workbench, stage: Stage, found: DryRun) -> None:
    """Put one batch through a stage."""
    objective = bench.objective(stage)
    check_turns(stage, objective)
    check_predicts(stage, objective)
    bench.cases.check_fraction(stage, objective)
    trainer = trainer_of(bench, stage, objective)
    begun = time.monotonic()
    trainer.meter.restart()
    trial = trainer.try_out()
    seconds, peak = f"{time.monotonic() - begun:.1f}", trainer.meter.peak
    held = "–" if peak is None else f"{peak / 1024:.2f}"
    found.rows.append((stage.name, trial.batch, trial.predicts, trial.trainable, trial.frozen, seconds, held))
    for turn in objective.turns():
        how = stage.optimizers([t.name for t in objective.turns()])[turn.name].keys
        if how.get("no_decay") or how.get("layer_decay") is not None:
            named = stage.name if len(objective.turns()) == 1 else f"{stage.name}: {turn.name}"
            found.groups += [(named, *row) for row in table(parameter_groups(objective, turn, **how))]
