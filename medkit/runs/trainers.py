"""How a stage is trained and predicts, behind one protocol: by medkit's own engine, by a fit to features of a frozen
encoder, or by a program of its own."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from medkit.data.dataset import doubts_told, input_case
from medkit.data.draws import drawn_in_words
from medkit.data.loader import whole
from medkit.engine.best import no_best
from medkit.engine.events import EpochEnded, Events, Message, StageStarted
from medkit.engine.optimizers import Optimization
from medkit.engine.progress import Progress
from medkit.engine.settings import Patience, TrainingSettings
from medkit.engine.sharded import Division, check_division
from medkit.engine.step import to_device
from medkit.engine.trainer import Trainer
from medkit.engine.unfreeze import stages_of
from medkit.errors import InputError
from medkit.evaluation.items import restored_classes
from medkit.evaluation.ready import first_slice, ready
from medkit.protocols import Batch, Case, Record
from medkit.recipe import Stage
from medkit.recipe.training import items_a_step
from medkit.recipe.views import views_in_words
from medkit.runs.checks import bound_of, check_ranks, judged_by_loss, judged_number
from medkit.runs.cost import Meter, meter_of
from medkit.runs.external import Work
from medkit.runs.fitting import Fitting
from medkit.runs.footprint import Footprint
from medkit.runs.inference import Accepts, ImagePrediction, check_fields, first_predictions, infer, prepared
from medkit.runs.rehearsal import rehearse
from medkit.runs.validation import Validation
from medkit.runs.workbench import Workbench

CHECKPOINT_SECONDS = 60.0
"""Least time between checkpoints inside an epoch."""

Predicted = Callable[[Case], Mapping[str, np.ndarray]]
"""Reads the predictions of a case, on the source's grid, where they were made beforehand."""
FeaturesOf = Callable[[Case], np.ndarray]
"""Reads what an encoder has made of a case: (D,F), or maps (D,F,h,w)."""


@dataclass(frozen=True)
class Trial:
    """What became of one batch: what it was, what the stage predicts, and how many weights train and do not."""

    batch: str
    predicts: str
    trainable: str = "–"
    frozen: str = "–"


class StageTrainer(Protocol):
    """Trains a stage's objective and predicts with it.

    ``meter`` measures the memory that it takes.
    """

    bench: Workbench
    stage: Stage
    objective: Any
    meter: Meter

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

    def features(self, cases: Sequence[Case], split: str, progress: Progress) -> FeaturesOf | None:
        """What the encoder makes of cases, where that is kept; None where it is computed as they are predicted."""
        ...

    def predict_image(
        self, record: Record, fields: Mapping[str, float], accepts: Accepts, progress: Progress
    ) -> ImagePrediction:
        """Predict a new image, of which ``fields`` are known."""
        ...

    def try_out(self) -> Trial:
        """Train on one batch and predict one case, for a dry run."""
        ...


def trainer_of(bench: Workbench, stage: Stage, objective: Any) -> StageTrainer:
    """The trainer of a stage's objective."""
    if getattr(objective, "external", False):
        return ExternalTrainer(bench, stage, objective)
    if getattr(objective, "fitted", False):
        return FittingTrainer(bench, stage, objective)
    return BuiltInTrainer(bench, stage, objective)


class BuiltInTrainer:
    """Trains by medkit's engine, on prepared cases."""

    def __init__(self, bench: Workbench, stage: Stage, objective: Any) -> None:
        self.bench, self.stage, self.objective = bench, stage, objective
        self.meter = meter_of(bench.runtime.device)
        self._made_ready: dict[tuple[int, ...], Any] = {}

    @functools.cached_property
    def metrics(self) -> list[Any]:
        return self.bench.metrics(self.stage)

    def check(self) -> None:
        if self.stage.unfreeze is not None:
            stages_of(self.objective, self.stage.unfreeze.part)
        check_ranks(self.stage, len(self.bench.cases.train(self.stage)), self.bench.runtime.world_size)
        check_division(self.objective, self.stage.divided, f"stages.{self.stage.name}.shard")
        # Into the run's recipe, so that a resumed run draws the same.
        self.stage.draw = self.bench.reads.draw(self.stage, self.objective)
        self.bench.reads.check_views(self.stage, self.objective)
        self.bench.cases.check_labels(self.stage)
        # With another source, who is labelled is known once all are read.
        if hasattr(self.bench.dataset(self.stage).source, "have_masks"):
            self.bench.reads.of(self.stage, self.objective)
            self.bench.cases.learnable(self.stage, self.stage.train)

    def rehearse(self) -> None:
        rehearse(self.bench, self.stage, self.objective, self.metrics)
        self._check_judged()

    def _check_judged(self) -> None:
        """Refuse to judge epochs by a loss that the objective does not give."""
        if not (judged := judged_by_loss(self.stage, self.metrics)):
            return
        validation = Validation(self.bench, self.stage, self.objective, self.metrics, say=lambda text: None)
        names = validation.losses.names()
        if wrong := [name for name in judged if name not in names]:
            what = f"epochs of stage '{self.stage.name}' are judged by '{wrong[0]}', which is no loss of it"
            raise InputError(what, f"stages.{self.stage.name}", f"its losses: {', '.join(names)}")

    def prepared(self, tested: Sequence[str]) -> list[str]:
        return self.stage.splits(tested)

    def look(self) -> None:
        self.bench.seen.look(self.stage)

    def train(self, progress: Progress, events: Events) -> None:
        bench, stage = self.bench, self.stage
        assert bench.folder is not None
        bench.reads.of(stage, self.objective)  # asked now, none has to be made for it

        def say(text: str) -> None:
            events.emit(Message(f"{stage.name}: {text}"))

        if (draw := bench.reads.draw(stage)) is not None:
            say(f"{drawn_in_words(draw, stage.unit)} (draw: {draw})")
        self._tell_cases(say)
        if told := views_in_words(bench.recipe.data[stage.data]):
            made = [view.name for view in bench.reads.views(stage)]
            say(f"{told}; it reads {' and '.join(made) or 'none of them, so none are made'}")
        if items := items_a_step(stage.batch, stage.accumulate, bench.runtime.world_size):
            say(items)
        settings = self.settings()
        validate = None
        if stage.validate:
            needed = bool(judged_by_loss(stage, self.metrics))
            validate = Validation(bench, stage, self.objective, self.metrics, say, needed)
        folder = bench.folder.checkpoints(stage.name)
        division = Division.of(self.objective, settings.shard, bench.runtime)
        measuring = division.measuring(validate)
        with closing(bench.loader(stage)) as loader:
            state = Trainer(division.objective, loader, settings, division.runtime, folder, events, measuring).fit()
        division.put_together()
        if settings.keep_best is not None and state.best_epoch is None and bench.runtime.is_main:
            bench.folder.add_notice(no_best(stage.name, settings.keep_best.key))

    def _tell_cases(self, say: Callable[[str], None]) -> None:
        """Say, and keep for the report, on which fraction the stage trains, and which cases it leaves out."""
        bench, stage = self.bench, self.stage
        assert bench.folder is not None
        told_of = [bench.cases.fraction_in_words(stage)]
        for split in (stage.train, stage.validate):
            if split is not None:
                counts, unknown = bench.cases.labels_in_words(stage, split)
                told_of += [bench.cases.left_out(stage, split), unknown]
                if counts:
                    say(counts)
        for told in filter(None, told_of):
            say(told)
            if bench.runtime.is_main:
                bench.folder.add_notice(f"{stage.name}: {told}.")

    def settings(self) -> TrainingSettings:
        """How the stage's recipe says that it is trained."""
        bench, stage = self.bench, self.stage
        turns = [turn.name for turn in self.objective.turns()]
        optimizers, schedules = stage.optimizers(turns), stage.schedules(turns)
        return TrainingSettings(
            stage=stage.name,
            epochs=stage.epochs,
            seed=bench.seed(stage),
            optimizations={turn: Optimization.of(optimizers[turn], schedules[turn]) for turn in turns},
            unfreeze=stage.unfreeze,
            shard=stage.divided,
            clip=bound_of(stage),
            accumulate=stage.accumulate,
            keep_best=judged_number(stage, self.metrics, "keep_best"),
            early_stop=self._patience(),
            checkpoint_seconds=CHECKPOINT_SECONDS,
        )

    def _patience(self) -> Patience | None:
        stop, wanted = self.stage.early_stop, judged_number(self.stage, self.metrics, "early_stop")
        return None if stop is None or wanted is None else Patience(wanted, stop.patience, stop.min_delta)

    def predicted(self, cases: Sequence[Case], split: str, progress: Progress) -> Predicted | None:
        return None

    def features(self, cases: Sequence[Case], split: str, progress: Progress) -> FeaturesOf | None:
        return None

    def predict_image(
        self, record: Record, fields: Mapping[str, float], accepts: Accepts, progress: Progress
    ) -> ImagePrediction:
        bench, stage, runtime = self.bench, self.stage, self.bench.runtime
        check_fields(fields, self.objective)
        case = input_case(fields)
        sample = prepared(bench.recipe, stage, record, case)
        batch = to_device(whole(sample, tuple(case.fields)), runtime.device)
        objective = self._ready(batch)
        accepts(set(first_predictions(objective, batch, runtime)))
        found = infer(objective, batch, runtime, progress, in_blocks=stage.unit == "patch")
        own = {name: sample.restore(found[name][:, 0]) for name in ("mask_probability", "output") if name in found}
        if sample.classes is not None and "mask_probability" in found:
            own["mask_probability"] = restored_classes(sample, found["mask_probability"])
        doubts = doubts_told(sample, record.image.place)
        return ImagePrediction(found, own.get("mask_probability"), own.get("output"), doubts)

    def _ready(self, batch: Batch) -> Any:
        """The objective as it predicts fastest; made ready once for all images of one size."""
        size = tuple(batch["image"].shape[1:])
        if size not in self._made_ready:
            self._made_ready = {size: ready(self.objective.eval(), batch, self.bench.runtime.device)}
        return self._made_ready[size]

    def try_out(self) -> Trial:
        bench, stage, objective = self.bench, self.stage, self.objective
        bench.reads.draw(stage, objective)
        bench.reads.check_views(stage, objective)
        with closing(bench.loader(stage)) as loader:
            batch = next(iter(loader.epoch(0)))
        one = _OneBatch(batch, loader.device_augment)
        settings = replace(self.settings(), epochs=1, keep_best=None, early_stop=None)
        with tempfile.TemporaryDirectory() as scratch:
            Trainer(objective, one, settings, bench.runtime, Path(scratch), Events()).fit()
        parts = objective.parts()
        learning = {p for turn in objective.turns() for name in turn.parts for p in parts[name].parameters()}
        trainable = sum(p.numel() for p in learning if p.requires_grad)
        frozen = sum(p.numel() for p in objective.parameters()) - trainable
        found = self._predict_one()
        self.rehearse()
        shapes = ", ".join(f"{k} {tuple(v.shape)}" for k, v in batch.items() if hasattr(v, "shape") and v.dim() > 1)
        predicts = ", ".join(f"{k} {tuple(v.shape)}" for k, v in found.items())
        return Trial(shapes, predicts, f"{trainable:,}", f"{frozen:,}")

    def _predict_one(self) -> dict[str, Tensor]:
        """Predictions of the first training case; of its first slice where slices do not see each other."""
        dataset = self.bench.dataset(self.stage)
        batch = whole(dataset.sample(dataset.cases(self.stage.train)[0]), dataset.fields)
        if self.stage.unit != "volume":
            batch = first_slice(batch)
        with torch.inference_mode():
            return dict(self.objective.eval().predict(to_device(batch, self.bench.runtime.device)))


class _OneBatch:
    """The first batch of a loader, as a loader of one step."""

    steps = 1

    def __init__(self, batch: Batch, device_augment: Any) -> None:
        self.batch, self.device_augment = batch, device_augment

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return iter([self.batch] if start == 0 else [])


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
