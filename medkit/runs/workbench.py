"""From a recipe to the objects that training, evaluation and prediction share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from medkit.data.augment_chains import CPUChain, DeviceChain
from medkit.data.dataset import Dataset
from medkit.data.draws import ItemDraw, draw_of
from medkit.data.loader import Augmentation, Loader
from medkit.data.processes import default_jobs
from medkit.data.sampler import Sampler
from medkit.data.workers import count_workers
from medkit.engine.checkpoint import checksum_in, load_weights
from medkit.engine.ranks import place
from medkit.engine.recompute import checkpoint_activations
from medkit.engine.runtime import Runtime, seed_all
from medkit.errors import InputError, RunError
from medkit.paths import cache_folder, typed
from medkit.protocols import Case
from medkit.recipe import DataBlock, Recipe, Stage
from medkit.recipe.binary import binary_reader
from medkit.runs.folder import RunFolder
from medkit.runs.metric_checks import built_metrics
from medkit.runs.seen import Seen
from medkit.runs.settings import Workers
from medkit.runs.stage_cases import StageCases
from medkit.runs.stage_key import Keys
from medkit.runs.stage_reads import StageReads

GONE = "its file is gone: restore it from a copy of the run, or train the stage in a new run"


class Workbench:
    """Data sets and objectives of one recipe, built when first asked for.

    ``folder`` is where weights of finished stages are; without one (a dry run) a ``from:`` reference takes the
    untrained part. ``jobs`` and ``workers`` are those of :class:`medkit.runs.settings.RunSettings`.
    """

    def __init__(
        self,
        recipe: Recipe,
        runtime: Runtime,
        folder: RunFolder | None = None,
        *,
        jobs: int | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.recipe, self.runtime, self.folder = recipe, runtime, folder
        self.workers = workers
        self.jobs = max(1, (jobs or default_jobs()) // place().sharing)
        """Processes that this rank may start for preparation."""
        self._sources: dict[str, Any] = {}
        self._datasets: dict[str, Dataset] = {}
        self.rehearsed: dict[str, float] = {}
        """Seconds in which each stage predicted an item when it was rehearsed."""
        self.cases = StageCases(self)
        self.reads = StageReads(self)
        self.seen = Seen(self)
        self.keys = Keys(self)

    def seed(self, stage: Stage) -> int:
        """The seed of everything that ``stage`` draws while it trains: order, patches, augmentation, dropout.

        It differs between stages; a stage and its variants have the same one.
        """
        text = f"{self.recipe.seed}/{stage.base}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")

    def source(self, name: str) -> Any:
        """The source of a data block; its cases are not read yet, unless its :meth:`dataset` was asked for."""
        if name not in self._sources:
            self._sources[name] = self.recipe.data[name].source.build()
        return self._sources[name]

    def dataset(self, stage: Stage) -> Dataset:
        """The data block of ``stage`` as a data set."""
        name = stage.data
        if name not in self._datasets:
            self._datasets[name] = self.over(stage, self.source(name))
        return self._datasets[name]

    def over(self, stage: Stage, source: Any) -> Dataset:
        """The data block of ``stage`` with its cases from ``source``."""
        block: DataBlock = self.recipe.data[stage.data]
        return Dataset(
            source,
            block.splits,
            [step.build() for step in block.prepare],
            cache_dir=cache_folder() if block.cache else None,
            fields=tuple(block.fields),
            roles_known=True,
            classes=block.classes,
            labels=block.labels,
            binary=binary_reader(self.recipe, stage.data),
        )

    def notices(self) -> list[str]:
        """What readers of the results must know about data and weights, such as that images are phantoms; each once."""
        found = []
        for stage in self.recipe.stages:
            source: Any = self.dataset(stage).source
            while source is not None:
                found.append(getattr(source, "notice", ""))
                source = getattr(source, "source", None)  # what a source of pairs or of labels is made from
        return [text for text in dict.fromkeys([*found, *self.seen.notices()]) if text]

    def augmentation(self, stage: Stage) -> CPUChain | DeviceChain:
        """What changes training images of ``stage`` at random; a step without a form for its place is an error."""
        block = self.recipe.data[stage.data]
        steps = [step.build() for step in block.augment]
        return CPUChain(steps) if block.augment_on == "cpu" else DeviceChain(steps)

    def loader(self, stage: Stage) -> Loader:
        """The training loader of ``stage``."""
        block = self.recipe.data[stage.data]
        dataset = self.dataset(stage)
        steps = [step.build() for step in block.augment]
        augmentation = Augmentation(steps, block.augment_on, self.reads.views(stage))
        wanted = stage.workers if self.workers is None else self.workers
        workers = count_workers(wanted, self.runtime.device.type == "cuda", place().sharing)
        cases = self.cases.learnable(stage, stage.train)
        return Loader(dataset, cases, self.sampler(stage, cases), self._item_draw(stage), augmentation, workers)

    def sampler(self, stage: Stage, cases: Sequence[Case] | None = None) -> Sampler:
        """Which training cases of ``stage`` each step of an epoch gets; out of all cases, unless only those that losses
        can be computed on are asked for."""
        cases = self.cases.train(stage) if cases is None else cases
        dataset = self.dataset(stage)
        return Sampler(
            len(cases),
            stage.batch,
            self.seed(stage),
            rank=self.runtime.rank,
            ranks=self.runtime.world_size,
            repeats=stage.slices,
            positive=partial(dataset.positive, cases) if stage.balance else None,
        )

    def held_out_loader(self, stage: Stage) -> Loader:
        """Items of the validation split, drawn as in training and not augmented, with the views that heads compare."""
        dataset = self.dataset(stage)
        assert stage.validate is not None
        cases = self.cases.learnable(stage, stage.validate)
        sampler = Sampler(len(cases), stage.batch, self.recipe.seed, repeats=stage.slices)
        return Loader(dataset, cases, sampler, self._item_draw(stage), Augmentation(views=self.reads.views(stage)))

    def _item_draw(self, stage: Stage) -> ItemDraw:
        draw = self.reads.draw(stage) or "uniform"
        return draw_of(stage.unit, draw, patches=stage.patches, patch_size=stage.patch_size)

    def objective(self, stage: Stage) -> Any:
        """A fresh objective of ``stage``, ready to be trained as the stage says.

        Its weights are drawn from the recipe's seed; ``from:`` parts are trained ones.
        """
        objective = self.fresh(stage)
        for part in objective.parts().values():
            if stage.checkpointing:
                checkpoint_activations(part)
            if stage.compile:
                part.compile()
        return objective

    def fresh(self, stage: Stage) -> Any:
        """The objective as the recipe has it, computed in the plain way.

        Every part draws its weights from its own seed, made of the recipe's seed, the stage's name without its variant
        and the part's path. So variants of a stage start from the same weights wherever they have the same parts.
        """

        def seeded(path: str) -> None:
            seed_all(f"{self.recipe.seed}/{stage.base}/{path}")

        data = self.recipe.data[stage.data]
        objective = stage.objective.build(taken=self.part, seeded=seeded, data=data, stage=stage).to(
            self.runtime.device
        )
        units = getattr(objective, "units", (objective.unit,))
        if stage.unit not in units:
            what = f"'{stage.objective.name}' does not train on unit '{stage.unit}', but on {' or '.join(units)}"
            raise InputError(what, f"stages.{stage.name}.unit")
        if len(units) > 1:
            objective.unit = stage.unit
        if "encoder" in objective.parts():
            # Two-dimensional convolutions are about twice as fast this way; spectra are not.
            for layer in objective.modules():
                if isinstance(layer, torch.nn.Conv2d):
                    layer.to(memory_format=torch.channels_last)
        return objective

    def part(self, stage_name: str, part: str) -> Any:
        """A part of an earlier stage, with that stage's trained weights."""
        objective = self.trained(self.recipe.stage(stage_name))
        parts = objective.parts()
        if part not in parts:
            raise InputError(f"stage '{stage_name}' has no part '{part}'", hint=f"its parts: {', '.join(parts)}")
        return parts[part]

    def trained(self, stage: Stage) -> Any:
        """The objective of a finished stage with its saved weights."""
        objective = self.fresh(stage)
        if self.folder is None:
            return objective
        written = self.folder.key(stage.name).get("weights", {})
        for name, module in objective.parts().items():
            path = self.folder.weights(stage.name, name)
            if not path.is_file():
                raise self._without(stage, name, path)
            load_weights(path, module)
            if name in written and checksum_in(path) != written[name]:
                hint = "restore its own from a copy; a new run can start from other weights with 'weights: PATH'"
                raise InputError(f"these are not the weights that stage '{stage.name}' wrote", str(path), hint)
        return objective

    def _without(self, stage: Stage, name: str, path: Path) -> RunError:
        """Why there are no weights of a part: the run has not got that far, or somebody has removed them."""
        assert self.folder is not None
        if self.folder.done(stage.name):
            return RunError(f"stage '{stage.name}' has no weights for '{name}'", str(path), GONE)
        folder = str(self.folder.path)
        return RunError(
            f"stage '{stage.name}' has not been trained to its end", folder, f"medkit resume {typed(folder)}"
        )

    def metrics(self, stage: Stage) -> list[Any]:
        """The metrics of a stage, built.

        Raises
        ------
        InputError
            if two are recorded under one name, as their rows would be mixed, or one under that of another column.
        """
        return built_metrics(self.recipe, stage)

    def evaluated_splits(self, stage: Stage) -> list[str]:
        """The splits that a finished stage is evaluated on."""
        return self.recipe.evaluated_splits(stage)
