"""Preparation of head CT slices (window, CLAHE, resize to 256x256) and the cost of a training item.

The chain as a data set runs it against three ways of writing it: ``published``, slice by slice with NumPy, scikit-image
and OpenCV in the manner of the published SMART-Net test pipeline (with its slice-wise stretch behind ``np.unique``;
medkit's chain then has ``min_max``); ``plain``, the same without stretch; ``separate steps``, medkit's own, none joined.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.util import img_as_ubyte

from medkit.bench import Case, Target, Variant, Work
from medkit.data.dataset import Dataset
from medkit.data.loader import Loader
from medkit.data.transforms import CLAHE, MinMax, Resize, Window, prepare
from medkit.data.volume import Volume
from medkit.protocols import Case as Patient
from medkit.protocols import Record

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
    """Cases of slices of 512x512 with a bleed in four of them."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def cases(self) -> list[Patient]:
        return [Patient(str(i), str(i)) for i in range(4)]

    def identity(self, case: Patient) -> str:
        return f"{case.id}/{self.depth}"

    def load(self, case: Patient) -> Record:
        image = head(self.depth, seed=int(case.id))
        mask = np.zeros(image.shape, np.uint8)
        mask[2:6, 200:260, 200:260] = 1
        return Record(Volume(image), Volume(mask))


def epoch(unit: str, depth: int, device: torch.device) -> Callable[[], int]:
    """An epoch of four items from the disk cache, without augmentation."""
    folder = tempfile.TemporaryDirectory()
    data = Dataset(Heads(depth), {"train": {}}, STEPS, cache_dir=Path(folder.name))
    cases = data.cases("train")
    data.prepare_all(cases)
    loader = Loader(data, cases, unit, 4, seed=0)  # type: ignore[arg-type]
    turns = iter(range(1_000_000))

    def run() -> int:
        assert folder  # kept as long as this function is
        return len([batch["image"].shape for batch in loader.epoch(next(turns))])

    return run


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
        ),
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_data(case, versus) -> None:
    versus(case)
