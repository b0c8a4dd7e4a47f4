"""A stage that a program of its own trains and predicts with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medkit.data.dataset import input_case
from medkit.engine.events import EpochEnded, Events, Message, StageStarted
from medkit.engine.progress import Progress
from medkit.errors import InputError
from medkit.protocols import Case, Record
from medkit.recipe import Stage
from medkit.runs.cost import Meter
from medkit.runs.external import Work
from medkit.runs.footprint import Footprint
from medkit.runs.inference import Accepts, ImagePrediction
from medkit.runs.stage_trainer import FeaturesOf, Predicted, Trial
from medkit.runs.workbench import Workbench


class ExternalTrainer:
    """Has a program of its own train and predict, on cases as their source has them."""

    def __init__(self, bench: Workbench, stage: Stage, objective: Any) -> None:
        self.bench, self.stage, self.objective = bench, stage, objective
        self.footprint = Footprint()
        self.meter: Meter = self.footprint

    def check(self) -> None:
        if self.bench.runtime.world_size > 1:
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
        assert bench.folder is not None
        work = self._work(progress, events)
        events.emit(StageStarted(stage.name, stage.epochs, 0))
        events.emit(Message(f"{stage.name}: {self.objective.ignores}"))
        if told := bench.cases.fraction_in_words(stage):
            events.emit(Message(f"{stage.name}: {told}"))
            bench.folder.add_notice(f"{stage.name}: {told}.")
        train, validate = bench.cases.train(stage), dataset.cases(stage.validate) if stage.validate else []
        with work.task(stage.name):
            self.objective.train_cases(work, train, validate, stage.epochs, bench.recipe.seed)

    def predicted(self, cases: Sequence[Case], split: str, progress: Progress) -> Predicted | None:
        work = self._work(progress, Events())
        with work.task(f"{self.stage.name}: predicting {split}"):
            found: Predicted = self.objective.predict_cases(work, cases, split)
        return found

    def features(self, cases: Sequence[Case], split: str, progress: Progress) -> FeaturesOf | None:
        return None

    def predict_image(
        self, record: Record, fields: Mapping[str, float], accepts: Accepts, progress: Progress
    ) -> ImagePrediction:
        accepts({"mask_probability"})
        name = f"input-{os.getpid()}"
        work = self._work(progress, Events(), lambda _: record)
        try:
            with work.task("predicting"):
                case = input_case(fields)
                found = dict(self.objective.predict_cases(work, [case], name)(case))
        finally:
            self.objective.forget(work, name)  # what it has written for one image is not kept
        return ImagePrediction(found, found.get("mask_probability"), found.get("output"))

    def try_out(self) -> Trial:
        dataset = self.bench.dataset(self.stage)
        cases = dataset.cases(self.stage.train)
        shape = dataset.source.load(cases[0]).image.voxels.shape
        return Trial(f"{len(cases)} cases, of which one was read", f"by its own program: {shape}")

    def _work(self, progress: Progress, events: Events, load: Callable[[Case], Record] | None = None) -> Work:
        bench, stage = self.bench, self.stage
        assert bench.folder is not None

        def keep(epoch: int, values: Mapping[str, float]) -> None:
            events.emit(EpochEnded(stage.name, epoch, values))

        folder = bench.folder.path / "external" / stage.name
        load = load or bench.dataset(stage).source.load
        return Work(folder, load, str(bench.runtime.device), progress, keep, self.footprint)
