"""A dry run: everything built, one batch a stage trained and predicted, nothing written."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from medkit.data.loader import whole
from medkit.engine import memory
from medkit.engine.memory import shortage_told
from medkit.engine.runtime import Runtime
from medkit.engine.stage import train_stage
from medkit.evaluation.ready import first_slice
from medkit.protocols import Batch
from medkit.recipe import Recipe, Stage, load_recipe
from medkit.runs.checks import check_predicts, check_turns
from medkit.runs.external import is_external
from medkit.runs.rehearsal import rehearse
from medkit.runs.workbench import Workbench

COLUMNS = ("stage", "training batch", "predicts", "trainable", "frozen", "seconds", "peak GB")


class _OneBatch:
    """The first batch of a loader, as a loader of one step."""

    steps = 1

    def __init__(self, batch: Batch, device_augment: Any) -> None:
        self.batch, self.device_augment = batch, device_augment

    def epoch(self, epoch: int, start: int = 0) -> Any:
        return iter([self.batch] if start == 0 else [])


def dry_run(
    recipe: Recipe | str | Path,
    *,
    set: Sequence[str] = (),
    skip: Sequence[str] = (),
    device: str | None = None,
    precision: str = "fp32",
) -> tuple[Sequence[str], list[tuple[Any, ...]]]:
    """Build every stage and put one batch through it; returns a table's columns and rows.

    Parts taken from earlier stages are untrained ones here. Peak memory is that of the process during the stage (of all
    so far where counting cannot start over: not Linux), or the GPU's.
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
    runtime = bench.runtime
    memory.start_over()
    if runtime.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(runtime.device)
    objective = bench.objective(stage)
    check_turns(stage, objective)
    check_predicts(stage, objective)
    if is_external(objective):
        dataset = bench.dataset(stage)
        count = f"{len(dataset.cases(stage.train))} cases, of which one was read"
        begun = time.monotonic()
        shape = dataset.source.load(dataset.cases(stage.train)[0]).image.voxels.shape
        took = f"{time.monotonic() - begun:.1f}"
        return stage.name, count, f"by its own program: {shape}", "–", "–", took, "–"
    bench.draw(stage, objective)
    loader = bench.loader(stage)
    parts = objective.parts()
    learning = {p for turn in objective.turns() for name in turn.parts for p in parts[name].parameters()}
    turns = [turn.name for turn in objective.turns()]
    begun = time.monotonic()
    batch = next(iter(loader.epoch(0)))
    with tempfile.TemporaryDirectory() as scratch:
        train_stage(
            objective,
            _OneBatch(batch, loader.device_augment),
            name=stage.name,
            epochs=1,
            optimizers={turn: block.build() for turn, block in stage.optimizers(turns).items()},
            schedules={turn: block.build() for turn, block in stage.schedules(turns).items()},
            unfreeze=stage.unfreeze,
            seed=bench.recipe.seed,
            runtime=runtime,
            folder=Path(scratch),
        )
    trainable = sum(p.numel() for p in learning if p.requires_grad)
    frozen = sum(p.numel() for p in objective.parameters()) - trainable
    objective.eval()
    dataset = bench.dataset(stage)
    one = whole(dataset.sample(dataset.cases(stage.train)[0]), dataset.fields)
    if stage.unit != "volume":  # slices do not see each other: one of them tells as much as all
        one = first_slice(one)
    with torch.inference_mode():
        found = objective.predict({k: v.to(runtime.device) if hasattr(v, "to") else v for k, v in one.items()})
    rehearse(bench, stage, objective, bench.metrics(stage))
    peak = memory.peak() / 2**30
    if runtime.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(runtime.device) / 2**30
    shapes = ", ".join(f"{k} {tuple(v.shape)}" for k, v in batch.items() if hasattr(v, "shape") and v.dim() > 1)
    predicted = ", ".join(f"{k} {tuple(v.shape)}" for k, v in found.items())
    seconds = time.monotonic() - begun
    return stage.name, shapes, predicted, f"{trainable:,}", f"{frozen:,}", f"{seconds:.1f}", f"{peak:.2f}"
