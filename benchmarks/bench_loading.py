"""Batches by processes and by a thread, preparation by processes, cost of shards and channels: ``ratio-*.json``.

Head slices of 512x512 are prepared to 256x256 and augmented by the thesis's seven steps. The ways take turns in one
process, with one thread each; work of a single thread is compared by its CPU time. The bare memory map reads the same
slices or volumes from plain ``.npy`` files that stay mapped, and makes the same float32 batches of them.

python benchmarks/bench_loading.py [batches] [preparation] [shards] [channels] [--rounds 7]
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from medkit_benchmarks import script
from medkit_benchmarks.bench_data import STEPS, Heads

from medkit.bench.ratio import Ratio, save, take_turns
from medkit.data.augment import Blur, Brightness, Contrast, GaussNoise, HorizontalFlip, ShiftIntensity, ShiftScaleRotate
from medkit.data.cache import Cache
from medkit.data.channels import Windows
from medkit.data.dataset import Dataset
from medkit.data.draws import draw_of
from medkit.data.loader import Augmentation, Loader
from medkit.data.sampler import Sampler
from medkit.data.transforms import Resize

SEVEN = [ShiftScaleRotate(), ShiftIntensity(), HorizontalFlip(), Brightness(), Contrast(), GaussNoise(), Blur()]
DEPTH, BATCH = 24, 20
THREE, SMALL = ((0, 80), (-20, 180), (-800, 2000)), Resize((256, 256))
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


def dataset(folder: Path, cases: int = 12, steps: Sequence[Any] = STEPS) -> Dataset:
    found = Dataset(Heads(DEPTH, cases), {"train": {}}, steps, folder)
    found.prepare_all(found.cases("train"))
    return found


def loader(data: Dataset, unit: Any, batch: int, repeats: int = 1, workers: int = 0, augment: Any = ()) -> Loader:
    cases = data.cases("train")
    sampler = Sampler(len(cases), batch, 0, repeats=repeats)
    return Loader(data, cases, sampler, draw_of(unit), Augmentation(augment), workers)


class Epochs:
    """Takes the batches of one epoch after another; processes live from the first epoch to the last."""

    def __init__(self, batches: Loader) -> None:
        self.loader, self.turn = batches, 0

    def __call__(self) -> None:
        self.turn += 1
        for batch in self.loader.epoch(self.turn):
            batch["image"].sum()


class Numbers:
    """An epoch's wall and CPU seconds, kept as a pair so that both are of the same epoch."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.cpu: list[float] = []

    def __call__(self) -> float:
        wall, cpu = time.perf_counter(), time.process_time()
        self.work()
        self.cpu.append(time.process_time() - cpu)
        return time.perf_counter() - wall


def batches_by(folder: Path, rounds: int) -> list[Ratio]:
    data = dataset(folder)
    ways = {
        "thread": Numbers(Epochs(loader(data, "slice", BATCH, 45, augment=SEVEN))),
        "two processes": Numbers(Epochs(loader(data, "slice", BATCH, 45, workers=2, augment=SEVEN))),
    }
    wall = take_turns(ways, rounds, "own")
    cpu = {name: way.cpu[-rounds:] for name, way in ways.items()}
    ways["two processes"].work.loader.close()  # type: ignore[attr-defined]
    note = "540 slices of 256x256 an epoch, seven augmentations, nobody else at work in the training's process."
    return [
        Ratio.of("batches: time", wall, "thread", "two processes", at_least=1.4, note=note),
        Ratio.of("batches: CPU of the training's process", cpu, "two processes", "thread", at_most=0.25, note=note),
    ]


def preparation(folder: Path, rounds: int) -> list[Ratio]:
    source = Heads(DEPTH, 16)
    for case in source.cases():
        source.load(case)  # into memory, so that reading costs nothing

    def prepare(jobs: int) -> None:
        data = Dataset(source, {"train": {}}, STEPS, Path(tempfile.mkdtemp(dir=folder)))
        data.prepare_all(data.cases("train"), jobs=jobs)

    times = take_turns({"one process": partial(prepare, 1), "two processes": partial(prepare, 2)}, rounds)
    note = f"Preparation of 16 cases of {DEPTH} slices of 512x512."
    return [Ratio.of("preparation", times, "one process", "two processes", at_least=1.6, note=note)]


def against_bare_maps(data: Dataset, folder: Path, unit: Any, batch: int, repeats: int, rounds: int) -> dict[str, Any]:
    """An epoch of batches from shards, without a thread, and the same from plain memory maps."""
    made = loader(data, unit, batch, repeats)
    cases = data.cases("train")
    maps: list[dict[str, np.ndarray]] = []
    for case in cases:
        sample = data.sample(case)
        arrays = {"image": sample.image, "mask": sample.mask}
        for name, array in arrays.items():
            np.save(folder / f"{case.id}-{name}.npy", array)
        maps.append(
            {name: np.load(folder / f"{case.id}-{name}.npy", mmap_mode="r").view(np.ndarray) for name in arrays}
        )
    picks = [
        [
            (index, slice(None) if unit == "volume" else slice(z % DEPTH, z % DEPTH + 1))
            for index, z in made.sampler.step(0, step)
        ]
        for step in range(made.steps)
    ]

    def shards() -> None:
        for step in range(made.steps):
            made.batch((0, step))

    length = DEPTH if unit == "volume" else 1

    def bare() -> None:
        for step in picks:
            batch = {}
            for name in ("image", "mask"):
                found = np.empty((len(step) * length, 256, 256), np.float32)
                for i, (index, pick) in enumerate(step):
                    found[i * length : (i + 1) * length] = maps[index][name][pick]
                batch[name] = torch.from_numpy(found)[:, None]

    return take_turns({"shards": shards, "bare memory map": bare}, rounds, "cpu", 2)


def small_samples(folder: Path, rounds: int, count: int = 2000) -> Ratio:
    """Samples of a 64x64 slice with four arrays, in shards and in a folder for each, read in random order."""
    cache = Cache(folder / "small")
    rng = np.random.default_rng(0)
    arrays = {
        "image": rng.random((1, 64, 64), np.float32),
        "mask": np.ones((1, 64, 64), np.uint8),
        "packed_mask": np.ones(512, np.uint8),
        "slice_volumes": np.ones(1),
    }
    meta = {"native_shape": [64, 64], "shapes": [[64, 64]], "digests": [1, 2], "doubt": "", "counts": [4096]}
    keys = [rng.bytes(16).hex() for _ in range(2 * count)]
    for key in keys[:count]:
        cache.write(key, arrays, meta)
    with cache.writer() as writer:
        for key in keys[count:]:
            writer.add(key, arrays, meta)

    def read(wanted: list[str], from_folders: bool) -> None:
        for i in rng.permutation(count):
            found = cache.read_folder(wanted[i]) if from_folders else cache.shards.read(wanted[i])
            assert found is not None
            found[0]["image"].sum()

    ways = {"folders": partial(read, keys[:count], True), "shards": partial(read, keys[count:], False)}
    times = take_turns(ways, rounds, "cpu")
    note = f"{count} samples of 64x64 with four arrays each, in random order, the image summed."
    return Ratio.of("small samples", times, "folders", "shards", at_least=30, note=note)


def shards(folder: Path, rounds: int) -> list[Ratio]:
    data = dataset(folder / "cache")
    slices = against_bare_maps(data, folder, "slice", BATCH, 20, rounds)
    volumes = against_bare_maps(data, folder, "volume", 1, 1, rounds)
    note = "256x256 in float32 with masks of uint8, batches of 20 slices and of one volume of 24; CPU time."
    return [
        Ratio.of("a slice", slices, "shards", "bare memory map", at_most=1.3, note=note),
        Ratio.of("a whole case", volumes, "shards", "bare memory map", at_most=1.2, note=note),
        small_samples(folder, rounds),
    ]


def channels(folder: Path, rounds: int) -> list[Ratio]:
    """An epoch of batches of three windows against one of one window, with and without augmentation."""
    steps = {"three windows": [Windows(THREE), SMALL], "one window": [Windows(THREE[:1]), SMALL]}
    sets = {name: dataset(folder / name.replace(" ", "-"), steps=own) for name, own in steps.items()}
    found = []
    for what, augment in (("as they are", ()), ("augmented", SEVEN)):
        made = {name: loader(data, "slice", BATCH, 20, augment=augment) for name, data in sets.items()}
        times = take_turns({name: partial(_epoch, batches) for name, batches in made.items()}, rounds, "cpu", 2)
        note = "240 slices of 256x256, three windows against the first of them, CPU time of one thread."
        found.append(Ratio.of(f"channels, {what}", times, "three windows", "one window", at_most=3.2, note=note))
    return found


def _epoch(batches: Loader) -> None:
    for step in range(batches.steps):
        batches.batch((0, step))


WHAT = {"batches": batches_by, "preparation": preparation, "shards": shards, "channels": channels}


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("what", nargs="*", choices=list(WHAT), help="default: all of them")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # Whether freed memory returns to the system, to be fetched again page by page, is luck: here it stays, for all ways.
    libc = ctypes.CDLL(None)
    libc.mallopt(TRIM_THRESHOLD, 1 << 30)
    libc.mallopt(MMAP_THRESHOLD, 1 << 30)
    for what in given.what or WHAT:
        busy = os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as folder:
            found = WHAT[what](Path(folder), given.rounds)
        others = f"When it began, {busy:.1f} processes were at work on {os.cpu_count()} cores."
        save(what, [dataclasses.replace(ratio, note=f"{ratio.note} {others}") for ratio in found])


if __name__ == "__main__":
    main()
