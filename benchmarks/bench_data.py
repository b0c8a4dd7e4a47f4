"""Preparation of head CT slices (window, CLAHE, resize to 256x256) and the cost of a training batch.

Compares the chain as a data set runs it with three ways of writing it: ``official``, slice by slice with NumPy,
scikit-image and OpenCV in the manner of the published SMART-Net test pipeline (with its slice-wise stretch behind
``np.unique``; medkit's chain then has ``min_max``); ``plain``, the same without stretch; ``steps``, medkit's own steps,
none joined. All in one process, in turn; medians of the ratios.

    OMP_NUM_THREADS=1 python benchmarks/bench_data.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage.util import img_as_ubyte

from medkit.data.dataset import Dataset
from medkit.data.loader import Loader
from medkit.data.transforms import CLAHE, MinMax, Resize, Window, prepare
from medkit.data.volume import Volume
from medkit.protocols import Case, Record

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


def official(volume: np.ndarray) -> np.ndarray:
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


def compare(
    a: Callable[..., np.ndarray], b: Callable[..., np.ndarray], volume: np.ndarray, rounds: int
) -> dict[str, object]:
    """``b`` against ``a``: slices a second, quartiles of the ratios, largest difference."""
    error = float(np.abs(a(volume) - b(volume)).max())
    times: dict[Callable[..., np.ndarray], list[float]] = {a: [], b: []}
    for turn in range(rounds):
        for way in (a, b) if turn % 2 == 0 else (b, a):
            start = time.perf_counter()
            way(volume)
            times[way].append(time.perf_counter() - start)
    low, middle, high = statistics.quantiles([x / y for x, y in zip(times[a], times[b], strict=True)], n=4)
    return {
        "before_slices_per_s": round(len(volume) / statistics.median(times[a])),
        "slices_per_s": round(len(volume) / statistics.median(times[b])),
        "speedup": round(middle, 2),
        "quartiles": [round(low, 2), round(high, 2)],
        "error": error,
    }


class Heads:
    """Cases of 32 slices of 512x512 with a bleed in four of them."""

    def cases(self) -> list[Case]:
        return [Case(str(i), str(i)) for i in range(4)]

    def identity(self, case: Case) -> str:
        return case.id

    def load(self, case: Case) -> Record:
        image = head(32, seed=int(case.id))
        mask = np.zeros(image.shape, np.uint8)
        mask[10:14, 200:260, 200:260] = 1
        return Record(Volume(image), Volume(mask))


def batches(rounds: int) -> dict[str, object]:
    """Milliseconds a training item takes from the disk cache, without augmentation."""
    with tempfile.TemporaryDirectory() as folder:
        data = Dataset(Heads(), {"train": {}}, STEPS, cache_dir=Path(folder))
        cases = data.cases("train")
        data.prepare_all(cases)
        found: dict[str, object] = {}
        for unit in ("slice", "volume"):
            loader = Loader(data, cases, unit, 4, seed=0)  # type: ignore[arg-type]
            list(loader.epoch(0))
            took = []
            for epoch in range(rounds):
                start = time.perf_counter()
                list(loader.epoch(epoch))
                took.append((time.perf_counter() - start) / 4 * 1e3)
            found[f"{unit}_item_ms"] = round(statistics.median(took), 2)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    volume = head(options.depth)
    result: dict[str, object] = {
        "official": compare(official, joined_stretched, volume, options.rounds),
        "plain": compare(plain, joined, volume, options.rounds),
        "steps": compare(one_by_one, joined, volume, options.rounds),
        "loader": batches(options.rounds),
        "opencv": cv2.__version__,
        "torch": torch.__version__,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
