"""A stage that medkit's own engine trains, in steps, on prepared cases."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medkit.data.collate import whole
from medkit.data.dataset import doubts_told, input_case
from medkit.data.draws import drawn_in_words
from medkit.engine.best import no_best
from medkit.engine.events import Events, Message
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
from medkit.recipe.no_effect import too_late
from medkit.recipe.training import items_a_step
from medkit.recipe.views import views_in_words
from medkit.runs.checks import bound_of, check_ranks, judged_by_loss, judged_number
from medkit.runs.cost import meter_of
from medkit.runs.inference import Accepts, ImagePrediction, check_fields, first_predictions, infer, prepared
from medkit.runs.rehearsal import rehearse
from medkit.runs.stage_trainer import FeaturesOf, Predicted, Trial
from medkit.runs.validation import Validation
from medkit.runs.workbench import Workbench

CHECKPOINT_SECONDS = 60.0
"""Least time between checkpoints inside an epoch."""


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
            try:
                stages_of(self.objective, self.stage.unfreeze.part)
            except InputError as error:
                place = self.bench.recipe.places.get((self.stage.name, "unfreeze"))
                raise InputError(error.what, error.where or (str(place) if place else None), error.hint) from error
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
            self._tell(too_late(stage, -(-loader.steps // stage.accumulate)), say)
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
        self._tell(told_of, say)

    def _tell(self, told_of: Sequence[str], say: Callable[[str], None]) -> None:
        """Say what is not empty, and keep it for the report."""
        assert self.bench.folder is not None
        for told in filter(None, told_of):
            say(told)
            if self.bench.runtime.is_main:
                self.bench.folder.add_notice(f"{self.stage.name}: {told}.")

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
            key="" if bench.folder is None else bench.folder.key(stage.name).get("training", ""),
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
