"""Training steps of bundled recipes: the engine's, and those of a loop by hand on the same objective and batches.

Data, batches, losses and optimizer are the recipe's own. What differs is who takes the steps.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from medkit.bench.ratio import Ratio, take_turns
from medkit.engine.events import Events
from medkit.engine.progress import Progress
from medkit.engine.runtime import Runtime
from medkit.engine.settings import TrainingSettings
from medkit.engine.trainer import Trainer
from medkit.protocols import Batch
from medkit.recipe import Stage, load_recipe
from medkit.runs.built_in_trainer import BuiltInTrainer
from medkit.runs.listeners import ShowProgress
from medkit.runs.workbench import Workbench

STEPS, DIFFERENT, ROUNDS = 100, 20, 7
RECIPES = {"SMART-Net": ("ich_seg", "pretext"), "RED-CNN": ("ldct_redcnn", "denoise")}
NOTE = f"An epoch of {STEPS} steps in CPU time, the engine's two checkpoints among them; batches were made before."


class AtHand:
    """The first batches of a recipe's stage, again and again."""

    steps = STEPS

    def __init__(self, bench: Workbench, stage: Stage) -> None:
        dataset = bench.dataset(stage)
        dataset.prepare_all(dataset.cases(stage.train))
        loader = bench.loader(stage)
        self.items = [loader.batch((0, step)) for step in range(min(DIFFERENT, loader.steps))]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return islice(cycle(self.items), start, STEPS)


def fit(objective: Any, batches: Any, settings: TrainingSettings, runtime: Runtime) -> None:
    """Train by the engine, silently, in a folder that is removed."""
    with tempfile.TemporaryDirectory() as folder:
        events = Events(own=[ShowProgress(Progress(quiet=True))])
        Trainer(objective, batches, settings, runtime, Path(folder), events).fit()


def engine(trainer: BuiltInTrainer, batches: AtHand) -> None:
    settings = dataclasses.replace(trainer.settings(), epochs=1, keep_best=None, early_stop=None)
    fit(trainer.objective, batches, settings, trainer.bench.runtime)


def by_hand(trainer: BuiltInTrainer, batches: AtHand) -> None:
    objective = trainer.objective
    (turn,) = objective.turns()
    optimizer = trainer.settings().optimizations[turn.name].build(objective, turn)
    objective.train()
    shown = 0.0
    for batch in batches.epoch(0):
        optimizer.zero_grad(set_to_none=True)
        loss = torch.stack(list(objective.losses(turn.name, batch).values())).sum()
        loss.backward()
        optimizer.step()
        shown += loss.item()


def ratio(name: str) -> Ratio:
    recipe, stage = RECIPES[name]
    bench = Workbench(load_recipe(recipe), Runtime(torch.device("cpu")))
    of_stage = bench.recipe.stage(stage)
    batches = AtHand(bench, of_stage)

    def steps(take: Callable[[BuiltInTrainer, AtHand], None]) -> Callable[[], None]:
        trainer = BuiltInTrainer(bench, of_stage, bench.fresh(of_stage))
        return lambda: take(trainer, batches)

    times = take_turns({"engine": steps(engine), "bare": steps(by_hand)}, ROUNDS, clock="cpu")
    return Ratio.of(f"a training step of {name}, {recipe}", times, "engine", "bare", at_most=1.05, note=NOTE)
