"""A stage that is fitted to features of a frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medkit.engine.events import EpochEnded, Events, Message, StageStarted
from medkit.engine.progress import Progress
from medkit.protocols import Case
from medkit.recipe import Stage
from medkit.runs.built_in_trainer import BuiltInTrainer
from medkit.runs.fitting import Fitting
from medkit.runs.rehearsal import rehearse
from medkit.runs.stage_trainer import FeaturesOf, Trial
from medkit.runs.workbench import Workbench


class FittingTrainer(BuiltInTrainer):
    """Fits what an objective puts on features of its encoder, which are computed once (:mod:`medkit.runs.fitting`)."""

    def __init__(self, bench: Workbench, stage: Stage, objective: Any) -> None:
        super().__init__(bench, stage, objective)
        self.fitting = Fitting(bench, stage, objective)

    def check(self) -> None:
        self.fitting.check()

    def rehearse(self) -> None:
        rehearse(self.bench, self.stage, self.objective, self.metrics)

    def train(self, progress: Progress, events: Events) -> None:
        stage = self.stage

        def say(text: str) -> None:
            events.emit(Message(f"{stage.name}: {text}"))

        events.emit(StageStarted(stage.name, 1, 0))
        self.bench.reads.of(stage, self.objective)
        self._tell_cases(say)
        choice = self.fitting.fit(progress, say)
        error = {} if choice.error is None else {"squared_error": choice.error}
        events.emit(EpochEnded(stage.name, 1, {**choice.settings, **error}))

    def features(self, cases: Sequence[Case], split: str, progress: Progress) -> FeaturesOf | None:
        self.fitting.compute(split, cases, progress)
        return self.fitting.of

    def try_out(self) -> Trial:
        images, features = self.fitting.first()
        self.rehearse()
        frozen = sum(p.numel() for p in self.objective.parameters())
        return Trial(f"image {images}", f"from features {features}", "0", f"{frozen:,}")
