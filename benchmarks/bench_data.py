"""Preparation of head CT slices (window, CLAHE, resize to 256x256) and the cost of a training item.

The chain as a data set runs it is compared with three other ways: ``published``, slice by slice with NumPy, scikit-image
and OpenCV like the published SMART-Net test pipeline (with its slice-wise stretch after ``np.unique``; medkit's chain
then has ``min_max``); ``plain``, the same without stretch; ``separate steps``, medkit's own steps, not fused.

``waiting for batches`` trains on batches of the thesis's sizes: ready in memory, prepared ahead by the loader's thread,
or made on request; the latter two with prepared cases on disk or with every case prepared anew.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import torch
from skimage.util import img_as_ubyte
from torch import nn

from medkit.bench import Case, Target, Variant, Work
from medkit.data.augment import Brightness, Contrast, Dihedral, HorizontalFlip, ShiftScaleRotate
from medkit.data.dataset import Dataset
from medkit.data.draws import draw_of
from medkit.data.loader import Augmentation, Loader
from medkit.data.sampler import Sampler
from medkit.data.transforms import CLAHE, MinMax, Resize, Window, prepare
from medkit.data.volume import Volume
from medkit.protocols import Batch, Record
from medkit.protocols import Case as Patient

STEPS = [Window(), CLAHE(), Resize((256, 256))]
STRETCHED = [Window(), CLAHE(), MinMax(), Resize((256, 256))]


def head(depth: int, size: int = 512, seed: int = 0) -> np.ndarray:
    """A skull of 900 HU around noisy tissue in whole HU (D,H,W) int16."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    radius = np.hypot(y / 0.85, x / 0.7)
    slices = np.empty((depth, size, size), np.int16)
    for image in slices:
        texture = cv2.GaussianBlur(rng.normal(size=(size, size)), (0, 0), 9)
        tissue = 32 + 6 * texture / texture.std() + rng.normal(0, 5, (size, size))
        hu = np.where(radius < 0.92, tissue, np.where(radius < 1, 900, -1000))
        image[:] = np.rint(hu)
    return slices


def plain(volume: np.ndarray) -> np.ndarray:
    out = []
    for image in volume:
        scaled = np.clip((image.astype(np.float32) - 0) / 80, 0, 1)
        equalised = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(img_as_ubyte(scaled))
        out.append(cv2.resize(equalised.astype(np.float32) / 255, (256, 256), interpolation=cv2.INTER_LINEAR))
    return np.stack(out)


def published(volume: np.ndarray) -> np.ndarray:
    out = []
    for image in volume:
        scaled = np.clip((image.astype(np.float32) - 0) / 80, 0, 1)
        clahe = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8))
        equalised = clahe.apply(img_as_ubyte(scaled)).astype(np.float32)
        if len(np.unique(equalised)) != 1:  # a constant slice cannot be stretched
            equalised = (equalised - equalised.min()) / (equalised.max() - equalised.min())
        out.append(cv2.resize(equalised, (256, 256), interpolation=cv2.INTER_LINEAR))
    return np.stack(out)


def one_by_one(volume: np.ndarray) -> np.ndarray:
    arrays = {"image": volume}
    for step in STEPS:
        arrays = step.apply(arrays)
    return arrays["image"]


def joined(volume: np.ndarray) -> np.ndarray:
    return prepare(STEPS, {"image": volume})[0]["image"]


def joined_stretched(volume: np.ndarray) -> np.ndarray:
    return prepare(STRETCHED, {"image": volume})[0]["image"]


def preparation(
    way: Callable[[np.ndarray], np.ndarray], depth: int, size: int, device: torch.device
) -> Callable[[], np.ndarray]:
    cv2.setNumThreads(torch.get_num_threads())
    volume = head(depth, size)
    return lambda: way(volume)


class Heads:
    """Cases of slices, some with a bleed; with ``pairs``, they are noisier than their target.

    They are kept in memory, so that reading them costs nothing.
    """

    def __init__(self, depth: int, number: int = 4, size: int = 512, pairs: bool = False) -> None:
        self.depth, self.number, self.size, self.pairs = depth, number, size, pairs
        self._heads: dict[str, np.ndarray] = {}

    def cases(self) -> list[Patient]:
        return [Patient(str(i), str(i)) for i in range(self.number)]

    def identity(self, case: Patient) -> str:
        return f"{case.id}/{self.depth}"

    def load(self, case: Patient) -> Record:
        if case.id not in self._heads:
            self._heads[case.id] = head(self.depth, self.size, seed=int(case.id))
        image = self._heads[case.id]
        if self.pairs:
            return Record(Volume(image + np.int16(9) * (image % np.int16(2))), target=Volume(image))
        mask = np.zeros(image.shape, np.uint8)
        mask[self.depth // 4 : self.depth // 2, 200:260, 200:260] = 1
        return Record(Volume(image), Volume(mask))


def epoch(unit: str, depth: int, device: torch.device) -> Callable[[], int]:
    """An epoch of four items from the disk cache, without augmentation."""
    folder = tempfile.TemporaryDirectory()
    data = Dataset(Heads(depth), {"train": {}}, STEPS, cache_dir=Path(folder.name))
    cases = data.cases("train")
    data.prepare_all(cases)
    loader = Loader(data, cases, Sampler(len(cases), 4, seed=0), draw_of(unit))  # type: ignore[arg-type]
    turns = iter(range(1_000_000))

    def run() -> int:
        assert folder  # kept as long as this function is
        return len([batch["image"].shape for batch in loader.epoch(next(turns))])

    return run


@dataclass(frozen=True)
class Training:
    """Sizes of a training, to measure how long its steps wait for batches."""

    unit: Literal["slice", "patch"]
    batch: int
    steps: int
    size: int = 512
    side: int = 256  # of prepared slices
    depth: int = 8

    def loader(self, folder: Path | None) -> Loader:
        pairs = self.unit == "patch"
        steps = [Window()] if pairs else [Window(), CLAHE(), Resize((self.side, self.side))]
        data = Dataset(Heads(self.depth, self.batch, self.size, pairs), {"train": {}}, steps, folder)
        cases = data.cases("train")
        data.prepare_all(cases)
        augment = [Dihedral()] if pairs else [ShiftScaleRotate(), HorizontalFlip(), Brightness(), Contrast()]
        sampler = Sampler(len(cases), self.batch, seed=0, repeats=self.steps)
        return Loader(data, cases, sampler, draw_of(self.unit), Augmentation(augment))

    def network(self) -> nn.Module:
        """A far lighter network than the thesis's, so that the loader has less time per batch than it ever will."""
        torch.manual_seed(0)
        layers: list[nn.Module] = [nn.Conv2d(1, 32, 3, 2, 1), nn.ReLU()]
        for _ in range(3):
            layers += [nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU()]
        return nn.Sequential(*layers)


class Epoch:
    """An epoch of forward and backward passes; returns its losses and records how long it waited.

    Parameters
    ----------
    source:
        ``at hand``, ``ahead`` or ``asked for``: where its batches come from.
    cached:
        Whether prepared cases are on disk; otherwise each is prepared anew in every epoch.
    """

    def __init__(self, training: Training, source: str, cached: bool, device: torch.device) -> None:
        cv2.setNumThreads(torch.get_num_threads())
        self.source, self.cached, self.device = source, cached, device
        self._folder = tempfile.TemporaryDirectory()
        self.loader = training.loader(Path(self._folder.name) if cached else None)
        self.net = training.network().to(device)
        self._kept = list(self.loader.epoch(0)) if source == "at hand" else []
        self._shares: list[float] = []

    def batches(self) -> Iterator[Batch]:
        if self.source == "at hand":
            return iter(self._kept)
        if not self.cached:
            self.loader.dataset.memory.clear()
        return self.loader.epoch(0) if self.source == "ahead" else self._asked()

    def _asked(self) -> Iterator[Batch]:
        return (self.loader.batch((0, step)) for step in range(self.loader.steps))

    def __call__(self) -> list[float]:
        batches, losses, waited, begun = self.batches(), [], 0.0, time.perf_counter()
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                break
            if losses:
                waited += time.perf_counter() - asked
            else:
                begun = time.perf_counter()  # nothing can be ahead of the first batch
            loss = self.net(batch["image"].to(self.device, non_blocking=True)).square().mean()
            torch.autograd.grad(loss, list(self.net.parameters()))
            losses.append(loss.item())
        self._shares.append(waited / (time.perf_counter() - begun))
        return losses

    @property
    def remark(self) -> str:
        """The note below the table."""
        return f"waited {100 * float(np.median(self._shares)):.1f} % of a step for its batch"


def waiting(name: str, training: Training, **options: Any) -> Case:
    variants = [
        ("batches at hand", "at hand", True),
        ("prepared ahead, cached", "ahead", True),
        ("prepared ahead, no cache", "ahead", False),
        ("when asked for, cached", "asked for", True),
    ]
    return Case(
        f"waiting for batches, {name}",
        tuple(Variant(label, partial(Epoch, training, source, cached)) for label, source, cached in variants),
        tolerance=1e-5,
        gpu_tolerance=1e-3,
        relative=True,
        rounds=5,
        **options,
    )


def case(
    name: str, one: Callable, other: Callable, depth: int = 16, size: int = 512, target: float = 0, quick: bool = False
) -> Case:
    targets = (Target("medkit", "speed", target), Target("medkit", "error", 1e-6)) if target else ()
    return Case(
        f"{name}, {depth} slices of {size}x{size}",
        (
            Variant(name, partial(preparation, one, depth, size)),
            Variant("medkit", partial(preparation, other, depth, size)),
        ),
        tolerance=1e-6,
        work=Work(bytes=depth * (2 * size * size + 4 * 256 * 256)),
        targets=targets,
        quick=quick,
        host=True,
    )


def cases() -> list[Case]:
    items = ("volume", "slice")
    return [
        case("plain", plain, joined, 2, 128, quick=True),
        case("published", published, joined_stretched, target=1.4),
        case("plain", plain, joined),
        case("separate steps", one_by_one, joined),
        Case(
            "four items of 32 slices from the cache",
            tuple(Variant(unit, partial(epoch, unit, 32), same=unit == "volume") for unit in items),
            host=True,
        ),
        waiting("2 slices of 32x32", Training("slice", 2, 2, size=128, side=32), quick=True),
        waiting("20 slices of 256x256", Training("slice", 20, 6)),
        waiting("20 times 8 patches of 64x64", Training("patch", 20, 6)),
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_data(case, versus) -> None:
    versus(case)
