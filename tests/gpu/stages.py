"""Stages of the tiny recipes, one of every objective, trained on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medkit.engine.events import Events, StepEnded
from medkit.engine.runtime import Runtime
from medkit.engine.trainer import Trainer
from medkit.protocols import Batch
from medkit.recipe import load_recipe
from medkit.runs.built_in_trainer import BuiltInTrainer
from medkit.runs.workbench import Workbench

STAGES = {
    "multitask": ("tiny_ich_seg", "pretext", ()),
    "volume": ("tiny_ich_seg", "segment", ()),
    "restoration": ("tiny_ldct", "denoise", ()),
    "adversarial": ("tiny_ldct_mtdgan", "denoise", ("stages.denoise.objective.ema=0.9",)),
    "regression": ("tiny_pedxnet_boneage", "bone_age", ()),
}
"""Recipe, stage and changes; the adversarial one has PCGrad and an average of its generator."""


class Stopped(Exception):
    """A training is ended in its midst."""


class StopAt:
    """A listener that ends the training after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def step_ended(self, event: StepEnded) -> None:
        self.left -= 1
        if not self.left:
            raise Stopped


class Losses:
    """A listener that keeps the losses of every batch."""

    def __init__(self) -> None:
        self.found: list[dict[str, float]] = []

    def step_ended(self, event: StepEnded) -> None:
        self.found.append(dict(event.losses))


class Few:
    """The first batches of a loader, every epoch the same ones."""

    def __init__(self, loader: Any, steps: int) -> None:
        self.steps, self.device_augment = steps, loader.device_augment
        batches = iter(loader.epoch(0))
        self.batches: list[Batch] = [next(batches) for _ in range(min(steps, loader.steps))]

    def epoch(self, epoch: int, start: int = 0) -> Any:
        return iter([self.batches[i % len(self.batches)] for i in range(start, self.steps)])


class Prepared:
    """A stage on a device: its objective, batches and settings."""

    def __init__(self, kind: str, device: torch.device, precision: str = "fp32", epochs: int = 2) -> None:
        recipe, stage, changes = STAGES[kind]
        made = load_recipe(recipe, set=changes)
        self.runtime = Runtime(device, precision)
        bench = Workbench(made, self.runtime)
        self.stage = next(one for one in made.stages if one.name == stage)
        torch.manual_seed(0)
        self.objective = bench.objective(self.stage)
        bench.reads.draw(self.stage, self.objective)
        self.batches = Few(bench.loader(self.stage), 3)
        settings = BuiltInTrainer(bench, self.stage, self.objective).settings()
        self.settings = replace(settings, epochs=epochs, keep_best=None, checkpoint_seconds=0.0)

    def train(self, folder: Path, listeners: Sequence[Any] = ()) -> dict[str, Tensor]:
        """Train, or go on in ``folder``; returns the weights."""
        events = Events(own=list(listeners))
        Trainer(self.objective, self.batches, self.settings, self.runtime, folder, events).fit()
        return {name: tensor.detach().cpu().clone() for name, tensor in self.objective.state_dict().items()}
