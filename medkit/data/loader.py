"""Training batches as a pure function of (seed, epoch, rank, position)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from medkit.data.augment_chains import CPUChain, DeviceChain
from medkit.data.collate import Item, collate
from medkit.data.dataset import Dataset
from medkit.data.draws import Arrays, ItemDraw, SliceDraw
from medkit.data.sample import Sample
from medkit.data.sampler import Sampler
from medkit.data.streams import generators
from medkit.data.views import Views
from medkit.data.workers import Key, WorkerBatches, by_thread
from medkit.errors import InputError, MedkitError, RunError, some
from medkit.protocols import Batch, Case

TOLERANCE = 1e-3  # beyond [0,1], for rounding by resizing
OPEN = 1024  # samples whose memory maps a loader keeps open


class Augmentation:
    """Random changes of training images, by the loader (``on: cpu``) or on whole batches, by the engine (``device``).

    ``views`` are made from the images in addition, by the same of the two.
    """

    def __init__(self, steps: Sequence[object] = (), on: str = "cpu", views: Sequence[Views] = ()) -> None:
        self.chain = CPUChain(steps) if steps and on == "cpu" else None
        self.views = [view for view in views if view.chain is not None]
        changes = DeviceChain(steps) if steps and on == "device" else None
        later = [view for view in views if view.on_device is not None]
        self.on_device = OnDevice(changes, later) if changes is not None or later else None
        every = [*steps, *(step for view in views for step in view.steps)]
        self.unit_range = [type(step).__name__ for step in every if getattr(step, "unit_range", False)]

        self.by_item = self.chain is not None or bool(self.views) or bool(self.unit_range)

    def of_item(self, arrays: Arrays, draw: ItemDraw, case: Case, rng: np.random.Generator) -> Arrays:
        """The arrays of an item, changed, and its views of the unchanged image."""
        if not self.by_item:
            return arrays
        self._check_range(arrays, case)
        changed = arrays if self.chain is None else draw.augmented(arrays, self.chain, rng)
        return changed | {view.name: view.of_item(arrays["image"], draw, rng) for view in self.views}

    def _check_range(self, arrays: Arrays, case: Case) -> None:
        """Refuse values outside [0,1], such as HU, for augmentations that clip: they would become black and white."""
        for name in ("image", "target") if self.unit_range else ():
            if name in arrays and (arrays[name].min() < -TOLERANCE or arrays[name].max() > 1 + TOLERANCE):
                span = f"{arrays[name].min():g} to {arrays[name].max():g}"
                what = f"the prepared {name} of case '{case.id}' spans {span}, but {self.unit_range[0]} needs [0,1]"
                raise InputError(what, hint="prepare it with 'window' or 'min_max', or leave out the augmentation")


class OnDevice:
    """Augments a batch on its device, and makes views from its unchanged images."""

    def __init__(self, changes: DeviceChain | None, views: Sequence[Views]) -> None:
        self.changes, self.views = changes, views

    def __call__(self, batch: Batch) -> Batch:
        changed = dict(batch) if self.changes is None else self.changes(batch)
        return changed | {view.name: view.of_batch(batch) for view in self.views}


class Loader:
    """Batches of one split for training.

    Every item has its own random generator from (seed, epoch, position), so ``epoch(e, start=k)`` gives exactly the
    same as skipping k batches of ``epoch(e)``, whatever process makes them.

    Parameters
    ----------
    sampler:
        The order of cases.
    draw:
        What an item takes from its case.
    workers:
        Number of processes that make batches; 0 means a thread.
    """

    def __init__(
        self,
        dataset: Dataset,
        cases: Sequence[Case],
        sampler: Sampler,
        draw: ItemDraw | None = None,
        augmentation: Augmentation | None = None,
        workers: int = 0,
    ) -> None:
        self.dataset, self.cases, self.sampler = dataset, cases, sampler
        self.draw = draw or SliceDraw()
        self.augmentation = augmentation or Augmentation()
        self._opened: dict[int, Sample] = {}
        if self.draw.unit == "volume" and sampler.repeats != 1:
            what = "'slices' draws single slices, but this stage trains on whole volumes"
            raise InputError(what, hint="leave out 'slices'")
        self._workers: WorkerBatches | None = None
        if workers:
            theirs = copy.copy(self)
            self._workers = WorkerBatches(theirs.batch, sampler.steps, workers, told=theirs.told)

    @property
    def steps(self) -> int:
        return self.sampler.steps

    @property
    def device_augment(self) -> OnDevice | None:
        """What the engine calls on batches, on their device, to augment them and make views."""
        return self.augmentation.on_device

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from the ``start``-th on, made in advance."""
        if self._workers is not None:
            return self._workers.epoch(epoch, start)
        return by_thread(self._pinned, epoch, range(start, self.steps))

    def close(self) -> None:
        """End the processes that make batches, if there are any."""
        if self._workers is not None:
            self._workers.close()

    def batch(self, key: Key) -> Batch:
        """The batch of an epoch and a step."""
        epoch, step = key
        chosen = self.sampler.step(epoch, step)
        streams = generators(self.sampler.seed, epoch, [position for _, position in chosen])
        return self.collate([self._item(index, rng) for (index, _), rng in zip(chosen, streams, strict=True)])

    def collate(self, items: Sequence[Item]) -> Batch:
        """A batch of some of its items."""
        return collate(items, self.draw, self.dataset.classes, self.dataset.fields)

    def _pinned(self, key: Key) -> Batch:
        batch = self.batch(key)
        if torch.cuda.is_available():
            batch = {k: v.pin_memory() if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        return batch

    def told(self, key: Key) -> str:
        """A batch in words, for errors."""
        names = [self.cases[index].id for index, _ in self.sampler.step(*key)]
        return f"epoch {key[0] + 1}, step {key[1] + 1} (cases {some(names)})"

    def item(self, index: int, epoch: int, position: int) -> Item:
        """One case as it is at a position of an epoch."""
        return self._item(index, np.random.default_rng([self.sampler.seed, epoch, 1, position]))

    def _item(self, index: int, rng: np.random.Generator) -> Item:
        """One case, drawn and augmented.

        Raises
        ------
        RunError
            naming the case, for whatever an augmentation raises.
        """
        try:
            sample = self._opened.get(index) or self._sample(index)
            case = sample.case
            arrays, label, z = self.draw.draw(sample, rng)
            arrays = self.augmentation.of_item(arrays, self.draw, case, rng)
            return Item(case.id if z is None else f"{case.id}#{z}", case, arrays, label, sample.labels)
        except (MedkitError, MemoryError):
            raise
        except Exception as error:
            what = f"a training item cannot be made ({type(error).__name__}: {error})"
            raise RunError(what, f"case '{self.cases[index].id}'") from error

    def _sample(self, index: int) -> Sample:
        found = self.dataset.sample(self.cases[index])
        if self.dataset.cache is not None:
            if len(self._opened) >= OPEN:
                self._opened.clear()
            self._opened[index] = found
        return found

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_opened": {}, "_workers": None}  # workers need neither
