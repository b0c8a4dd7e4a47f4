"""How fast a stage trains and predicts on this machine, from a few of its steps: for estimates of time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch

from medkit.data.collate import whole
from medkit.engine.events import Events
from medkit.engine.step import to_device
from medkit.engine.trainer import Trainer
from medkit.evaluation.ready import first_slice
from medkit.protocols import Batch
from medkit.recipe import Stage
from medkit.runs.built_in_trainer import BuiltInTrainer
from medkit.runs.fitting_trainer import FittingTrainer
from medkit.runs.trainers import trainer_of
from medkit.runs.workbench import Workbench

STEPS = 3
"""How many steps are timed for an estimate, after a first one that is slower."""


@dataclass(frozen=True)
class Pace:
    """Seconds that a training step takes, and that predicting a whole case takes."""

    step: float
    case: float

    def seconds(self, bench: Workbench, stage: Stage) -> float:
        """The training and the evaluation of a stage, from what is already prepared."""
        dataset = bench.dataset(stage)
        validated = len(dataset.cases(stage.validate)) if stage.validate else 0
        tested = sum(len(dataset.cases(split)) for split in bench.evaluated_splits(stage))
        if stage.fitted:  # features of every case, once
            return (len(bench.cases.learnable(stage, stage.train)) + validated + tested) * self.case
        return stage.epochs * (bench.sampler(stage).steps * self.step + validated * self.case) + tested * self.case


def pace_of(bench: Workbench, stage: Stage) -> Pace | None:
    """Take a few steps of a stage's training, from untrained weights, and predict a case; nothing is kept.

    None if a separate program trains the stage.
    """
    trainer = trainer_of(bench, stage, bench.trained(stage))
    if isinstance(trainer, FittingTrainer):
        trainer.fitting.first()
        begun = time.monotonic()
        trainer.fitting.first()
        return Pace(0.0, time.monotonic() - begun)
    if not isinstance(trainer, BuiltInTrainer):
        return None
    return Pace(_step(trainer, STEPS), _case(trainer))


def step_of(bench: Workbench, stage: Stage, steps: int = STEPS) -> float | None:
    """Seconds of a stage's training step, from so many; None if it is not trained in medkit's own steps."""
    trainer = None if stage.fitted else trainer_of(bench, stage, bench.trained(stage))
    return _step(trainer, steps) if isinstance(trainer, BuiltInTrainer) else None


def _step(trainer: BuiltInTrainer, steps: int) -> float:
    bench, stage = trainer.bench, trainer.stage
    bench.reads.draw(stage, trainer.objective)
    with closing(bench.loader(stage)) as loader:
        seconds = [_fit(trainer, loader, several) for several in (1, 1, 1 + steps)]
    return step_seconds(seconds[1], seconds[2], steps)


def step_seconds(one: float, several: float, steps: int = STEPS) -> float:
    """Seconds per step, from a training of one step and one of ``steps`` more.

    If the first took as long as the second, because of whatever else the machine did, the start counts too: a step is
    never said to take no time.
    """
    return (several - one) / steps if several > one else several / (1 + steps)


def _fit(trainer: BuiltInTrainer, loader: Any, steps: int) -> float:
    settings = replace(trainer.settings(), epochs=1, keep_best=None, early_stop=None)
    few = _Few(loader, steps)
    with tempfile.TemporaryDirectory() as scratch:
        begun = time.monotonic()
        Trainer(trainer.objective, few, settings, trainer.bench.runtime, Path(scratch), Events()).fit()
        return time.monotonic() - begun


def _case(trainer: BuiltInTrainer) -> float:
    bench, stage = trainer.bench, trainer.stage
    dataset = bench.dataset(stage)
    sample = dataset.sample(dataset.cases(stage.train)[0])
    slices = 1 if stage.unit == "volume" else len(sample.image)
    batch: Any = whole(sample, dataset.fields)
    batch = to_device(batch if stage.unit == "volume" else first_slice(batch), bench.runtime.device)
    objective = trainer.objective.eval()
    with torch.inference_mode():
        objective.predict(batch)
        begun = time.monotonic()
        objective.predict(batch)
        return (time.monotonic() - begun) * slices


class _Few:
    """The first steps of a loader's epochs; their batches are made while the network works, as in a training."""

    def __init__(self, loader: Any, steps: int) -> None:
        self.loader, self.steps = loader, steps
        self.device_augment = loader.device_augment

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        repeated = (batch for _ in count() for batch in self.loader.epoch(epoch))  # of a short epoch
        return islice(repeated, start, self.steps)
