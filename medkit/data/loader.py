"""Training batches as a pure function of (seed, epoch, rank, position)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from medkit.data.augment_chains import CPUChain, DeviceChain
from medkit.data.dataset import Dataset
from medkit.data.draws import DRAWN, Draw, ItemDraw, SliceDraw, Unit, draw_of
from medkit.data.sample import Sample
from medkit.data.sampler import Sampler
from medkit.data.streams import generators
from medkit.data.views import NAMES, Views
from medkit.data.workers import Key, WorkerBatches, by_thread
from medkit.errors import InputError, MedkitError, RunError, some
from medkit.protocols import Batch, Case
from medkit.protocols.classes import Classes

__all__ = ["DRAWN", "Augmentation", "Draw", "Loader", "Unit", "draw_of", "whole"]

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

    def check_range(self, arrays: dict[str, np.ndarray], case: Case) -> None:
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
        return self.collate([self._named(index, rng) for (index, _), rng in zip(chosen, streams, strict=True)])

    def _pinned(self, key: Key) -> Batch:
        batch = self.batch(key)
        if torch.cuda.is_available():
            batch = {k: v.pin_memory() if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        return batch

    def told(self, key: Key) -> str:
        """A batch in words, for errors."""
        names = [self.cases[index].id for index, _ in self.sampler.step(*key)]
        return f"epoch {key[0] + 1}, step {key[1] + 1} (cases {some(names)})"

    def item(self, index: int, epoch: int, position: int) -> Batch:
        """One case, drawn and augmented.

        Raises
        ------
        RunError
            naming the case, for whatever an augmentation raises.
        """
        return self._named(index, np.random.default_rng([self.sampler.seed, epoch, 1, position]))

    def _named(self, index: int, rng: np.random.Generator) -> Batch:
        try:
            return self._item(index, rng)
        except (MedkitError, MemoryError):
            raise
        except Exception as error:
            what = f"a training item cannot be made ({type(error).__name__}: {error})"
            raise RunError(what, f"case '{self.cases[index].id}'") from error

    def _item(self, index: int, rng: np.random.Generator) -> Batch:
        sample = self._sample(index)
        drawn = self.draw.draw(sample, rng)
        arrays = drawn.arrays
        self.augmentation.check_range(arrays, sample.case)
        if self.augmentation.chain is not None:
            arrays = self.draw.augmented(arrays, self.augmentation.chain, rng)
        views = {view.name: view.of_item(drawn.arrays["image"], self.draw, rng) for view in self.augmentation.views}
        name = sample.case.id if drawn.z is None else f"{sample.case.id}#{drawn.z}"
        fields = {key: float(sample.case.fields[key]) for key in self.dataset.fields}
        declared = {} if sample.labels is None else {"labels": sample.labels}
        return {**arrays, **views, **declared, "label": drawn.label, "id": name, **fields}

    def _sample(self, index: int) -> Sample:
        found = self._opened.get(index)
        if found is None:
            found = self.dataset.sample(self.cases[index])
            if self.dataset.cache is not None:
                if len(self._opened) >= OPEN:
                    self._opened.clear()
                self._opened[index] = found
        return found

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_opened": {}, "_workers": None}  # workers need neither

    @staticmethod
    def check_sizes(name: str, items: list[Batch]) -> None:
        """Raise if images of one batch differ in size."""
        shapes = {item[name].shape[1:]: item["id"] for item in items}
        if len(shapes) > 1:
            each = " and ".join(f"{'x'.join(map(str, shape))} ({name})" for shape, name in list(shapes.items())[:2])
            hint = "give 'prepare' a step that brings all to one size (resize, pad_resize), or use batch: 1"
            raise InputError(f"cases of different size cannot be one batch: {each}", hint=hint)

    def collate(self, items: list[Batch]) -> Batch:
        """Stack items into a batch: slices of volumes one after the other, never padded."""
        each = self.draw.each
        batch: Batch = {"ids": [item["id"] for item in items for _ in range(each)]}
        for name in ("image", "mask", "target"):
            if all(name in item for item in items):
                self.check_sizes(name, items)
                found = _stacked([item[name] for item in items])
                if name == "mask":
                    batch[name] = masks_of(found, self.dataset.classes)
                else:
                    batch[name] = of_volumes(found) if self.draw.unit == "patch3d" else with_channels(found)
        for name in NAMES:
            if all(name in item for item in items):
                views = _stacked([item[name] for item in items])
                batch[name] = of_volumes(views, 2) if self.draw.unit == "patch3d" else with_channels(views, 2)
        if self.draw.unit == "volume":
            batch["lengths"] = torch.tensor([len(item["image"]) for item in items])
        for name in ("label", *self.dataset.fields):
            batch[name] = torch.tensor([item[name] for item in items for _ in range(each)], dtype=torch.float32)
        if all("labels" in item for item in items):
            batch["labels"] = torch.from_numpy(np.stack([item["labels"] for item in items for _ in range(each)]))
        return batch


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Slices of all arrays one after the other, as float32; each is copied only once."""
    return np.concatenate(arrays, dtype=np.float32, casting="unsafe")


def with_channels(array: np.ndarray, axis: int = 1) -> torch.Tensor:
    """Images as a tensor with channels at ``axis``, adding one if the array, (...,H,W), has none."""
    found = torch.from_numpy(array)
    return found if found.dim() == axis + 3 else found.unsqueeze(axis)


def of_volumes(array: np.ndarray, axis: int = 1) -> torch.Tensor:
    """Patches of volumes, (N,d,h,w) or (N,d,C,h,w), as (N,C,d,h,w); with views before, channels are at ``axis``."""
    found = torch.from_numpy(array)
    return found.unsqueeze(axis) if found.dim() == axis + 3 else found.transpose(axis, axis + 1).contiguous()


def masks_of(array: np.ndarray, classes: Classes | None) -> torch.Tensor:
    """Masks (n,H,W) float32 as (n,1,H,W), or for overlapping classes as (n,K,H,W); 3-D patches likewise."""
    if classes is None or not classes.overlapping:
        return torch.from_numpy(array)[:, None]
    planes = classes.planes(array.astype(np.uint8)).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(planes.swapaxes(0, 1)))


def whole(sample: Sample, fields: Sequence[str] = ()) -> Batch:
    """All slices of one case as a volume batch, for evaluation."""
    batch: Batch = {
        "ids": [sample.case.id],
        "image": with_channels(np.array(sample.image)),
        "lengths": torch.tensor([len(sample.image)]),
        "label": torch.tensor([sample.label]),
    }
    for name in ("mask", "target"):
        array = getattr(sample, name)
        if array is not None:
            found = np.array(array, dtype=np.float32)
            batch[name] = masks_of(found, sample.classes) if name == "mask" else with_channels(found)
    for name in fields:
        batch[name] = torch.tensor([float(sample.case.fields[name])])
    if sample.labels is not None:
        batch["labels"] = torch.from_numpy(sample.labels)[None]
    return batch
