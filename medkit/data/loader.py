"""Training batches as a pure function of (seed, epoch, rank, position)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch

from medkit.data.augment import CPUChain, DeviceChain
from medkit.data.cases import column
from medkit.data.dataset import Dataset, Sample
from medkit.errors import InputError
from medkit.protocols import Batch, Case

Unit = Literal["slice", "volume", "patch"]
Draw = Literal["uniform", "positive"]
DRAWN = {
    "uniform": "slices are drawn as they lie in the data",
    "positive": "a case with a positive mask gives the slice of a random positive voxel",
}
"""What each way of drawing slices means, for whoever reads the results."""
TOLERANCE = 1e-3  # of [0,1], for what resizing rounds
AHEAD = 2  # batches prepared while the network works


class Loader:
    """Batches of one split for training.

    Every item has a random generator of its own from (seed, epoch, position), so ``epoch(e, start=k)`` gives exactly
    what skipping k batches of ``epoch(e)`` does. All ranks share one permutation and take every ``ranks``-th item.

    Parameters
    ----------
    unit:
        ``slice``: one slice a case and epoch; ``volume``: whole cases, packed; ``patch``: ``patches`` squares of
        ``patch_size`` out of one slice, at the same place in image and target, inside the foreground.
    draw:
        Which slice, for units ``slice`` and ``patch``. ``uniform``: any; ``positive``: that of a random positive voxel
        of the mask, any where there is none (as published for SMART-Net: larger bleeds are seen more often).
    slices:
        Slices drawn from each case an epoch, for units ``slice`` and ``patch``.
    balance:
        Draw as many positive as negative cases an epoch, repeating the rarer kind.
    augment_on:
        ``cpu``: inside this loader; ``device``: by ``device_augment``, which the engine calls on batches.
    """

    def __init__(
        self,
        dataset: Dataset,
        cases: Sequence[Case],
        unit: Unit,
        batch: int,
        seed: int,
        *,
        rank: int = 0,
        ranks: int = 1,
        augment: Sequence[Any] = (),
        augment_on: str = "cpu",
        balance: bool = False,
        patches: int = 8,
        patch_size: int = 64,
        slices: int = 1,
        draw: Draw = "uniform",
    ) -> None:
        if unit == "volume" and slices != 1:
            raise InputError("'slices' draws single slices, and this stage trains on whole volumes")
        self.slices, self.draw = slices, draw
        self.dataset, self.cases, self.unit, self.batch, self.seed = dataset, cases, unit, batch, seed
        self.rank, self.ranks, self.balance = rank, ranks, balance
        self.patches, self.patch_size = patches, patch_size
        self.chain = CPUChain(augment) if augment and augment_on == "cpu" else None
        self.device_augment = DeviceChain(augment) if augment and augment_on == "device" else None
        self.unit_range = [type(step).__name__ for step in augment if getattr(step, "unit_range", False)]
        self._positive: np.ndarray | None = None
        items = len(self.order(0)) // ranks
        if items == 0:
            raise InputError(f"{len(self.cases)} training cases are too few for {ranks} ranks")
        # A last short batch would be a noisy step of its own; it is left out when there are others.
        self.steps = max(1, items // batch)

    def order(self, epoch: int) -> list[int]:
        """Indices of the cases of an epoch, for all ranks together."""
        rng = np.random.default_rng([self.seed, epoch, 0])
        if not self.balance:
            return (rng.permutation(len(self.cases) * self.slices) % len(self.cases)).tolist()
        yes, no = np.flatnonzero(self.positive()), np.flatnonzero(~self.positive())
        if not len(yes) or not len(no):
            raise InputError("balance needs positive and negative cases", hint="leave out 'balance'")
        size = -(-max(len(yes), len(no)) * self.slices // self.ranks) * self.ranks
        drawn = [rng.permutation(np.resize(rng.permutation(kind), size)) for kind in (yes, no)]
        # Every rank gets a positive case, then every rank a negative one, so that each alternates.
        return np.stack([kind.reshape(-1, self.ranks) for kind in drawn], 1).reshape(-1).tolist()

    def positive(self) -> np.ndarray:
        """Which cases are positive, (n,) booleans; known labels are not looked up in the mask."""
        if self._positive is None:
            labels = column(self.cases, "label")
            for i in np.flatnonzero(np.isnan(labels)).tolist():
                labels[i] = self.dataset.sample(self.cases[i]).label > 0
            self._positive = labels != 0
        return self._positive

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from the ``start``-th on, prepared ahead by a thread."""
        mine = self.order(epoch)[self.rank :: self.ranks]
        stop = threading.Event()
        ready: queue.Queue[Any] = queue.Queue(AHEAD)

        def work() -> None:
            try:
                for step in range(start, self.steps):
                    chosen = mine[step * self.batch : (step + 1) * self.batch]
                    first = (step * self.batch) * self.ranks + self.rank
                    item = self.collate(
                        [self.item(index, epoch, first + k * self.ranks) for k, index in enumerate(chosen)]
                    )
                    while not stop.is_set():
                        try:
                            ready.put(item, timeout=0.1)
                            break
                        except queue.Full:
                            continue
                    if stop.is_set():
                        return
                ready.put(None)
            except BaseException as error:  # handed to the consumer, which raises it
                ready.put(error)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            while worker.is_alive():
                try:
                    ready.get_nowait()
                except queue.Empty:
                    worker.join(0.05)

    def item(self, index: int, epoch: int, position: int) -> Batch:
        """One case, drawn and augmented."""
        rng = np.random.default_rng([self.seed, epoch, 1, position])
        sample = self.dataset.sample(self.cases[index])
        z = None if self.unit == "volume" else self.draw_slice(sample, rng)
        pick = slice(None) if z is None else slice(z, z + 1)
        arrays = {"image": np.asarray(sample.image[pick])}
        if sample.mask is not None:
            arrays["mask"] = np.asarray(sample.mask[pick])
        if sample.target is not None:
            arrays["target"] = np.asarray(sample.target[pick])
        label = sample.label
        if self.unit == "patch":
            arrays = self.cut(arrays, rng)
        elif self.unit == "slice" and "mask" in arrays:
            label = float(arrays["mask"].any())
        if self.unit_range:
            self.check_range(arrays, sample.case)
        if self.chain is not None:
            if self.unit == "patch":
                parts = [self.chain({k: v[i : i + 1] for k, v in arrays.items()}, rng) for i in range(self.patches)]
                arrays = {k: np.concatenate([part[k] for part in parts]) for k in arrays}
            else:
                arrays = self.chain(arrays, rng)
        name = sample.case.id if z is None else f"{sample.case.id}#{z}"
        fields = {key: float(sample.case.fields[key]) for key in self.dataset.fields}
        return {**arrays, "label": label, "id": name, **fields}

    def check_range(self, arrays: dict[str, np.ndarray], case: Case) -> None:
        """Augmentations that cut to [0,1] would make other values, such as HU, black and white."""
        for name in ("image", "target"):
            if name in arrays and (arrays[name].min() < -TOLERANCE or arrays[name].max() > 1 + TOLERANCE):
                span = f"{arrays[name].min():g} to {arrays[name].max():g}"
                what = f"the prepared {name} of case '{case.id}' goes from {span}, and {self.unit_range[0]} needs [0,1]"
                raise InputError(what, hint="prepare it with 'window' or 'min_max', or leave the augmentation out")

    def draw_slice(self, sample: Sample, rng: np.random.Generator) -> int:
        """The slice of a random positive voxel with ``draw: positive``; else, and where there is none, any."""
        depth = len(sample.image)
        if self.draw == "positive" and sample.mask is not None:
            weight = self.positive_voxels(sample)
            if weight.sum() > 0:
                return int(rng.choice(depth, p=weight / weight.sum()))
        return int(rng.integers(depth))

    def cut(self, arrays: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
        """``patches`` squares inside the foreground box of one slice, (1,H,W) to (patches,p,p)."""
        size = self.patch_size
        guide = arrays.get("target", arrays["image"])[0] > 0
        height, width = guide.shape
        grow = [(0, 0), (0, max(0, size - height)), (0, max(0, size - width))]
        if grow[1][1] or grow[2][1]:
            arrays = {name: np.pad(array, grow) for name, array in arrays.items()}
            height, width = max(height, size), max(width, size)
        rows, columns = np.flatnonzero(guide.any(1)), np.flatnonzero(guide.any(0))
        corners = []
        for found, full in ((rows, height), (columns, width)):
            low = int(found[0]) if len(found) else 0
            high = int(found[-1]) + 1 if len(found) else full
            # A box smaller than the patch lets it start early enough to hold the box.
            low = min(low, full - size)
            corners.append(rng.integers(low, max(low, min(high, full) - size) + 1, self.patches))
        return {
            name: np.stack([a[0, y : y + size, x : x + size] for y, x in zip(*corners, strict=True)])
            for name, a in arrays.items()
        }

    @staticmethod
    def check_sizes(name: str, items: list[Batch]) -> None:
        """Raise if images that are to be one batch differ in size."""
        shapes = {item[name].shape[1:]: item["id"] for item in items}
        if len(shapes) > 1:
            each = " and ".join(f"{'x'.join(map(str, shape))} ({name})" for shape, name in list(shapes.items())[:2])
            hint = "give 'prepare' a step that brings all to one size (resize, pad_resize), or use batch: 1"
            raise InputError(f"cases of different size cannot be one batch: {each}", hint=hint)

    def collate(self, items: list[Batch]) -> Batch:
        """Stack items: slices of volumes one after the other, never padded."""
        each = self.patches if self.unit == "patch" else 1
        batch: Batch = {"ids": [item["id"] for item in items for _ in range(each)]}
        for name in ("image", "mask", "target"):
            if all(name in item for item in items):
                self.check_sizes(name, items)
                stacked = np.concatenate([item[name] for item in items]).astype(np.float32, copy=False)
                batch[name] = torch.from_numpy(stacked)[:, None]
        if self.unit == "volume":
            batch["lengths"] = torch.tensor([len(item["image"]) for item in items])
        for name in ("label", *self.dataset.fields):
            batch[name] = torch.tensor([item[name] for item in items for _ in range(each)], dtype=torch.float32)
        if torch.cuda.is_available():
            batch = {k: v.pin_memory() if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        return batch


def whole(sample: Sample, fields: Sequence[str] = ()) -> Batch:
    """All slices of one case as a volume batch, for evaluation."""
    batch: Batch = {
        "ids": [sample.case.id],
        "image": torch.from_numpy(np.array(sample.image))[:, None],
        "lengths": torch.tensor([len(sample.image)]),
        "label": torch.tensor([sample.label]),
    }
    for name in ("mask", "target"):
        array = getattr(sample, name)
        if array is not None:
            batch[name] = torch.from_numpy(np.array(array, dtype=np.float32))[:, None]
    for name in fields:
        batch[name] = torch.tensor([float(sample.case.fields[name])])
    return batch
