"""How a stage is trained and predicts: by medkit's own engine, or by a program of its own, behind one protocol."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from medkit.data.loader import DRAWN
from medkit.engine.best import no_best
from medkit.engine.events import EpochEnded, Events, Message, StageStarted
from medkit.engine.progress import Progress
from medkit.engine.settings import TrainingSettings, Wanted
from medkit.engine.trainer import Trainer
from medkit.engine.unfreeze import stages_of
from medkit.errors import InputError
from medkit.evaluation.evaluate import evaluate
from medkit.protocols import Case
from medkit.recipe import Stage
from medkit.runs.checks import kept_metric
from medkit.runs.external import Work
from medkit.runs.footprint import Footprint
from medkit.runs.rehearsal import rehearse
from medkit.runs.workbench import Workbench

CHECKPOINT_SECONDS = 60.0
"""Least time between checkpoints inside an epoch."""

Predicted = Callable[[Case], Mapping[str, np.ndarray]]
"""Reads the predictions of a case, on the source's grid, where they were made beforehand."""


class StageTrainer(Protocol):
    """Trains a stage's objective and predicts with it.

    ``footprint`` measures the memory of programs that it starts; None where there are none.
    """

    stage: Stage
    objective: Any
    footprint: Footprint | None

    def check(self) -> None:
        """Refuse what this way of training cannot do; nothing has been written then."""
        ...

    def rehearse(self) -> None:
        """Try on one case what comes after the training."""
        ...

    def prepared(self, tested: Sequence[str]) -> list[str]:
        """The splits whose cases have to be prepared, if the stage is tested on ``tested``."""
        ...

    def look(self) -> None:
        """Take down what the images that the stage is trained on look like, so that copies of them are found."""
        ...

    def train(self, progress: Progress, events: Events) -> None:
        """Train the objective to its end, going on where an earlier attempt was interrupted."""
        ...

    def predicted(self, cases: Sequence[Case], split: str, progress: Progress) -> Predicted | None:
        """Predictions of cases that are made all at once; None where the objective predicts case by case."""
        ...


def trainer_of(bench: Workbench, stage: Stage, objective: Any) -> StageTrainer:
    """The trainer of a stage's objective."""
    if getattr(objective, "external", False):
        return ExternalTrainer(bench, stage, objective)
    return BuiltInTrainer(bench, stage, objective)


class BuiltInTrainer:
    """Trains by medkit's engine, on prepared cases."""

    footprint = None

    def __init__(self, bench: Workbench, stage: Stage, objective: Any) -> None:
        self.bench, self.stage, self.objective = bench, stage, objective

    @functools.cached_property
    def metrics(self) -> list[Any]:
        return self.bench.metrics(self.stage)

    def check(self) -> None:
        if self.stage.unfreeze is not None:
            stages_of(self.objective, self.stage.unfreeze.part)
        # Into the run's recipe, so that a resumed run draws the same.
        self.stage.draw = self.bench.draw(self.stage, self.objective)

    def rehearse(self) -> None:
        rehearse(self.bench, self.stage, self.objective, self.metrics)

    def prepared(self, tested: Sequence[str]) -> list[str]:
        return self.stage.splits(tested)

    def look(self) -> None:
        self.bench.seen.look(self.stage)

    def train(self, progress: Progress, events: Events) -> None:
        bench, stage = self.bench, self.stage
        assert bench.folder is not None
        if (draw := bench.draw(stage)) is not None:
            events.emit(Message(f"{stage.name}: {DRAWN[draw]} (draw: {draw})"))
        settings = self.settings()
        validate = self.validate if stage.validate and stage.metrics else None
        folder = bench.folder.checkpoints(stage.name)
        trainer = Trainer(self.objective, bench.loader(stage), settings, bench.runtime, folder, events, validate)
        state = trainer.fit()
        if settings.keep_best is not None and state.best_epoch is None and bench.runtime.main:
            bench.folder.add_notice(no_best(stage.name, settings.keep_best.key))

    def settings(self) -> TrainingSettings:
        """How the stage's recipe says that it is trained."""
        bench, stage = self.bench, self.stage
        turns = [turn.name for turn in self.objective.turns()]
        kept = kept_metric(stage, self.metrics)
        return TrainingSettings(
            stage=stage.name,
            epochs=stage.epochs,
            seed=bench.recipe.seed,
            optimizers={turn: block.build() for turn, block in stage.optimizers(turns).items()},
            schedules={turn: block.build() for turn, block in stage.schedules(turns).items()},
            unfreeze=stage.unfreeze,
            keep_best=None if kept is None else Wanted(*kept),
            checkpoint_seconds=CHECKPOINT_SECONDS,
        )

    def validate(self, epoch: int) -> dict[str, float]:
        """The stage's metrics on its validation split; every rank measures all cases."""
        bench, stage = self.bench, self.stage
        assert stage.validate is not None
        dataset = bench.dataset(stage)
        found = evaluate(
            self.objective,
            dataset,
            dataset.cases(stage.validate),
            self.metrics,
            stage=stage.name,
            split=stage.validate,
            unit=stage.unit,
            device=bench.runtime.device,
            intervals=False,
        )
        return {f"{stage.validate}/{name}": value.value for name, value in found.values.items()}

    def predicted(self, cases: Sequence[Case], split: str, progress: Progress) -> Predicted | None:
        return None


class ExternalTrainer:
    """Has a program of its own train and predict, on cases as their source has them."""

    def __init__(self, bench: Workbench, stage: Stage, objective: Any) -> None:
        self.bench, self.stage, self.objective = bench, stage, objective
        self.footprint = Footprint()

    def check(self) -> None:
        if self.bench.runtime.ranks > 1:
            what = f"stage '{self.stage.name}' is trained by a program of its own, on one rank"
            raise InputError(what, hint="use --devices 1")

    def rehearse(self) -> None:
        """There is nothing to try before the program has trained."""

    def prepared(self, tested: Sequence[str]) -> list[str]:
        return list(tested)

    def look(self) -> None:
        """Its images are not prepared, so there is nothing to look at."""

    def train(self, progress: Progress, events: Events) -> None:
        bench, stage = self.bench, self.stage
        dataset = bench.dataset(stage)
        work = self._work(progress, events)
        events.emit(StageStarted(stage.name, stage.epochs, 0))
        events.emit(Message(f"{stage.name}: {self.objective.ignores}"))
        validate = dataset.cases(stage.validate) if stage.validate else []
        with work.task(stage.name):
            self.objective.train_cases(work, dataset.cases(stage.train), validate, stage.epochs, bench.recipe.seed)

    def predicted(self, cases: Sequence[Case], split: str, progress: Progress) -> Predicted | None:
        work = self._work(progress, Events())
        with work.task(f"{self.stage.name}: predicting {split}"):
            found: Predicted = self.objective.predict_cases(work, cases, split)
        return found

    def _work(self, progress: Progress, events: Events) -> Work:
        bench, stage = self.bench, self.stage
        assert bench.folder is not None

        def keep(epoch: int, values: Mapping[str, float]) -> None:
            events.emit(EpochEnded(stage.name, epoch, values))

        folder = bench.folder.path / "external" / stage.name
        return Work(folder, bench.dataset(stage).source.load, str(bench.runtime.device), progress, keep, self.footprint)
