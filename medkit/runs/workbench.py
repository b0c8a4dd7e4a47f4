"""From a recipe to the objects that training, evaluation and prediction share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from medkit.data.augment import CPUChain, DeviceChain
from medkit.data.cases import take
from medkit.data.dataset import Dataset
from medkit.data.draws import Draw, ItemDraw, draw_of
from medkit.data.fractions import Chosen, choose
from medkit.data.ledger import person_of_each
from medkit.data.loader import Augmentation, Loader
from medkit.data.processes import default_jobs
from medkit.data.sampler import Sampler
from medkit.data.views import NAMES, Views, crops
from medkit.data.workers import count_workers
from medkit.engine.checkpoint import load_weights
from medkit.engine.ranks import place
from medkit.engine.recompute import checkpoint_activations
from medkit.engine.runtime import Runtime, seed_all
from medkit.engine.step import to_device
from medkit.errors import InputError, MedkitError, RunError
from medkit.paths import cache_folder
from medkit.protocols import Batch, Case
from medkit.recipe import DataBlock, Recipe, Stage
from medkit.recipe.views import lacking
from medkit.runs.folder import RunFolder
from medkit.runs.seen import Seen
from medkit.runs.settings import Workers
from medkit.runs.stage_key import Keys


class Workbench:
    """Data sets and objectives of one recipe, built when they are first asked for.

    ``folder`` is where weights of finished stages lie; without one (a dry run) a ``from:`` reference takes the
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
        self._datasets: dict[str, Dataset] = {}
        self._read: dict[str, set[str] | None] = {}
        self._fractions: dict[tuple[str, str, float], Chosen] = {}
        self._trained_on: dict[tuple[str, str], Sequence[Case]] = {}
        self.seen = Seen(self)
        self.keys = Keys(self)

    def seed(self, stage: Stage) -> int:
        """The seed of all that ``stage`` draws while it trains: order, patches, augmentation, dropout.

        Stages differ in it; a stage and its variants have the same one.
        """
        text = f"{self.recipe.seed}/{stage.base}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")

    def dataset(self, stage: Stage) -> Dataset:
        """The data block of ``stage`` as a data set."""
        name = stage.data
        if name not in self._datasets:
            block: DataBlock = self.recipe.data[name]
            self._datasets[name] = Dataset(
                block.source.build(),
                block.splits,
                [step.build() for step in block.prepare],
                cache_dir=cache_folder() if block.cache else None,
                fields=tuple(block.fields),
                roles_known=True,
            )
        return self._datasets[name]

    def notices(self) -> list[str]:
        """What readers of the results have to know of data and weights, such as that images are phantoms; each once."""
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
        augmentation = Augmentation(steps, block.augment_on, self.views(stage))
        wanted = stage.workers if self.workers is None else self.workers
        workers = count_workers(wanted, self.runtime.device.type == "cuda", place().sharing)
        cases = self.trained_on(stage, stage.train)
        return Loader(dataset, cases, self.sampler(stage, cases), self._item_draw(stage), augmentation, workers)

    def sampler(self, stage: Stage, cases: Sequence[Case] | None = None) -> Sampler:
        """Which training cases of ``stage`` each step of an epoch gets; of all cases, if those are not asked for that
        losses can be computed on."""
        cases = self.train_cases(stage) if cases is None else cases
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
        cases = self.trained_on(stage, stage.validate)
        sampler = Sampler(len(cases), stage.batch, self.recipe.seed, repeats=stage.slices)
        return Loader(dataset, cases, sampler, self._item_draw(stage), Augmentation(views=self.views(stage)))

    def train_cases(self, stage: Stage) -> Sequence[Case]:
        """The cases of the split that ``stage`` trains on, or of the fraction of it, labelled or not."""
        cases = self.dataset(stage).cases(stage.train)
        return cases if stage.fraction is None else take(cases, self.fraction(stage).inside)

    def fraction(self, stage: Stage) -> Chosen:
        """Which patients of its split a stage trains on; the same ones for all stages, under one seed of the recipe."""
        assert stage.fraction is not None
        key = (stage.data, stage.train, stage.fraction)
        if key not in self._fractions:
            dataset = self.dataset(stage)
            cases = dataset.cases(stage.train)
            people, labels = person_of_each(dataset.source, cases), dataset.labels(cases, self.jobs)
            self._fractions[key] = choose(people, labels, stage.fraction, self.recipe.seed)
        return self._fractions[key]

    def check_fraction(self, stage: Stage, objective: Any) -> None:
        """Refuse a fraction without a patient, or, where labels are read, without a case of some class."""
        if stage.fraction is not None:
            chosen, where = self.fraction(stage), f"stages.{stage.name}.train.fraction"
            chosen.check(stage.fraction, where, classes=False)
            read = self.reads(stage, objective)
            chosen.check(stage.fraction, where, classes=read is None or bool(read & {"label", "mask"}))

    def fraction_in_words(self, stage: Stage) -> str:
        """How many patients a fraction has, and by what it is stratified; nothing where all are trained on."""
        if stage.fraction is None:
            return ""
        found = self.fraction(stage)
        share = f"{found.patients} of {found.total} patients of '{stage.train}'"
        return f"it trains on {share} (fraction {stage.fraction:g}, {found.strata})"

    def trained_on(self, stage: Stage, split: str) -> Sequence[Case]:
        """The cases of a split that losses of ``stage`` can be computed on: those that have the labels and masks that
        its objective reads. All of them, where it reads neither or does not say.

        Raises
        ------
        InputError
            if none is left.
        """
        key = (stage.name, split)
        if key not in self._trained_on:
            cases = self.train_cases(stage) if split == stage.train else self.dataset(stage).cases(split)
            truths = self._truths(stage)
            found = take(cases, self.dataset(stage).labelled(cases, truths)) if truths else cases
            if not len(found):
                what = f"stage '{stage.name}' reads {' and '.join(truths)}, which no case of '{split}' has"
                hint = "on unlabelled cases only heads that read no labels can be trained"
                raise InputError(what, f"stages.{stage.name}", hint)
            self._trained_on[key] = found
        return self._trained_on[key]

    def left_out(self, stage: Stage, split: str) -> str:
        """How many cases of a split a stage leaves out, in words; nothing where it takes all."""
        every = self.train_cases(stage) if split == stage.train else self.dataset(stage).cases(split)
        some = self.trained_on(stage, split)
        missing = len(every) - len(some)
        why = f"without the {' and '.join(self._truths(stage))} that it reads"
        return f"{missing} of {len(every)} cases of '{split}' are left out, {why}" if missing else ""

    def _truths(self, stage: Stage) -> list[str]:
        """Which of label and mask the objective of a stage reads."""
        return sorted((self.reads(stage) or set()) & {"label", "mask"})

    def _item_draw(self, stage: Stage) -> ItemDraw:
        draw = self.draw(stage) or "uniform"
        return draw_of(stage.unit, draw, patches=stage.patches, patch_size=stage.patch_size)

    def draw(self, stage: Stage, objective: Any = None) -> Draw | None:
        """Which slices ``stage`` trains on: as its recipe says; else by positive voxels if what is trained reads masks
        or labels, and as they lie in the data if not. None where whole volumes are trained on.

        What a pretext reads is found by asking it for its view of two slices, so that a head need declare nothing.
        """
        if stage.draw is None and stage.unit != "volume":
            # Patches are cut out of any slice, as published for the denoisers.
            read = self.reads(stage, objective) if stage.unit == "slice" else None
            return "positive" if read is not None and read & {"mask", "label"} else "uniform"
        return stage.draw

    def views(self, stage: Stage) -> list[Views]:
        """The views that batches of ``stage`` hold: those of its data block, if what is trained reads them."""
        made = self._made(self.recipe.data[stage.data])
        read = self.reads(stage) if made else None
        return [view for view in made if read is None or view.name in read]

    def check_views(self, stage: Stage, objective: Any) -> None:
        """Refuse an objective that reads views which the data block of ``stage`` does not make."""
        block = self.recipe.data[stage.data]
        if stage.unit != "slice" and block.views is None and block.crops is None:
            return  # no case is read only to ask what hardly anybody does on this unit
        read = self.reads(stage, objective) or set()
        for name in NAMES:
            if name in read and getattr(block, name) is None:
                what, hint = lacking(stage.name, name, stage.data)
                raise InputError(what, f"stages.{stage.name}", hint)

    def _made(self, block: DataBlock) -> list[Views]:
        """All views that a data block makes."""
        found = []
        if (told := block.views) is not None:
            found.append(Views(told.count, [step.build() for step in told.augment], block.augment_on))
        if (squares := block.crops) is not None:
            steps = [step.build() for step in squares.augment]
            found.append(crops(squares.count, squares.size, squares.scale, steps, block.augment_on))
        return found

    def reads(self, stage: Stage, objective: Any = None) -> set[str] | None:
        """The entries of a batch that the objective of ``stage`` takes; None if it does not say so.

        It is shown a batch of one case that has a mask, if there is one.
        """
        if stage.name not in self._read:
            self._read[stage.name] = self._asked(stage, objective or self._fresh(stage))
        return self._read[stage.name]

    def _asked(self, stage: Stage, objective: Any) -> set[str] | None:
        if not hasattr(objective, "reads"):
            return None  # no case has to be read
        cases = self.dataset(stage).cases(stage.train)
        example = self._with_mask(stage, cases)
        state = torch.get_rng_state()
        try:
            found: set[str] | None = objective.reads(self._example(stage, example))
        except MedkitError:
            # A head may refuse a case without a mask; if another one has one, it is shown that.
            other = next((case for case in cases if self.dataset(stage).sample(case).mask is not None), None)
            if other is None or other.id == example.id:
                raise
            found = objective.reads(self._example(stage, other))
        finally:
            torch.set_rng_state(state)
        return found

    def _with_mask(self, stage: Stage, cases: Sequence[Case]) -> Case:
        """A case that has a mask, where the source knows of one without reading voxels; else the first."""
        have_masks = getattr(self.dataset(stage).source, "have_masks", None)
        if have_masks is not None and (there := np.flatnonzero(have_masks(cases))).size:
            return cases[int(there[0])]
        return cases[0]

    def _example(self, stage: Stage, case: Case) -> Batch:
        """Two items of a case as one batch of the stage, not augmented."""
        augmentation = Augmentation(views=self._made(self.recipe.data[stage.data]))
        draw, sampler = draw_of(stage.unit, patch_size=stage.patch_size), Sampler(1, 1, self.seed(stage))
        loader = Loader(self.dataset(stage), [case], sampler, draw, augmentation)
        batch = loader.collate([loader.item(0, 0, position) for position in range(2)])
        batch = to_device(batch, self.runtime.device)
        return batch if loader.device_augment is None else loader.device_augment(batch)

    def objective(self, stage: Stage) -> Any:
        """A fresh objective of ``stage``, ready to be trained as the stage says.

        Its weights are drawn from the recipe's seed; ``from:`` parts are trained ones.
        """
        objective = self._fresh(stage)
        for part in objective.parts().values():
            if stage.checkpointing:
                checkpoint_activations(part)
            if stage.compile:
                part.compile()
        return objective

    def _fresh(self, stage: Stage) -> Any:
        """The objective as the recipe has it, computed without detours.

        Every part draws its weights from a seed of its own, of the recipe's seed, the stage's name without its variant
        and the part's path. So variants of a stage start from the same weights wherever they have the same parts.
        """

        def seeded(path: str) -> None:
            seed_all(f"{self.recipe.seed}/{stage.base}/{path}")

        objective = stage.objective.build(taken=self.part, seeded=seeded).to(self.runtime.device)
        units = getattr(objective, "units", (objective.unit,))
        if stage.unit not in units:
            what = f"'{stage.objective.name}' does not train on unit '{stage.unit}', but on {' or '.join(units)}"
            raise InputError(what, f"stages.{stage.name}.unit")
        if len(units) > 1:
            objective.unit = stage.unit
        if "encoder" in objective.parts():
            # Two-dimensional convolutions are about twice as fast so; spectra are not.
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
        objective = self._fresh(stage)
        if self.folder is None:
            return objective
        for name, module in objective.parts().items():
            path = self.folder.weights(stage.name, name)
            if not path.is_file():
                raise RunError(f"stage '{stage.name}' has no weights for '{name}'", str(path), "has it been trained?")
            load_weights(path, module)
        return objective

    def metrics(self, stage: Stage) -> list[Any]:
        """The metrics of a stage, built.

        Raises
        ------
        InputError
            if two are recorded under one name: their rows would be mixed.
        """
        built = [block.build() for block in stage.metrics]
        for i, metric in enumerate(built):
            if metric.name in [other.name for other in built[:i]]:
                what = f"two metrics are recorded as '{metric.name}', and only one number can be"
                raise InputError(what, f"stages.{stage.name}.metrics", "keep one of them")
        return built

    def evaluated_splits(self, stage: Stage) -> list[str]:
        """The splits that a finished stage is evaluated on."""
        return self.recipe.evaluated_splits(stage)
