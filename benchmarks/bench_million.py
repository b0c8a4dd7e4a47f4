"""An epoch over a million prepared samples of 32x32 from shards: its memory and its start, ``results/million.json``.

Shards are written first, in a folder that is removed at the end. The images differ; everything else is copied from one
sample, since preparing a million would take longer than what is measured here. A separate process then opens the data
set, checks what is missing, and goes through an epoch while its own memory is recorded (``RssAnon``; pages of the shards'
files belong to the system, which takes them back).

python benchmarks/bench_million.py [--samples 1000000] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from medkit_benchmarks import script

from medkit.bench.results import environment, replace
from medkit.data.cases import CaseTable
from medkit.data.dataset import Dataset
from medkit.data.loader import Loader
from medkit.data.sample import pack, prepare_record
from medkit.data.sampler import Sampler
from medkit.data.transforms import Window
from medkit.data.volume import Volume
from medkit.protocols import Case, Record

BATCH = 256
LOOKS = 20


class Crops:
    """Single slices of 32x32, generated from their number."""

    def __init__(self, count: int) -> None:
        numbers = [f"{i:07d}" for i in range(count)]
        self.table = CaseTable({"id": numbers, "patient": numbers, "label": np.arange(count) % 2.0})

    def cases(self) -> CaseTable:
        return self.table

    def identity(self, case: Case) -> str:
        return case.id

    def load(self, case: Case) -> Record:
        pixels = np.random.default_rng(int(case.id)).integers(0, 80, (1, 32, 32)).astype(np.int16)
        return Record(Volume(pixels, units="HU"))


def dataset(folder: Path, count: int) -> Dataset:
    return Dataset(Crops(count), {"all": {}}, [Window()], folder)


def own_memory() -> float:
    """MB that belong to this process alone."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def epoch(folder: Path, count: int) -> dict[str, Any]:
    begun = time.perf_counter()
    data = dataset(folder, count)
    cases = data.cases("all")
    opened = time.perf_counter() - begun
    missing = len(data.missing(cases))
    looked = time.perf_counter() - begun
    loader = Loader(data, cases, Sampler(len(cases), BATCH, seed=0))
    memory, first, items = [], None, 0
    for step, batch in enumerate(loader.epoch(0)):
        first = first or time.perf_counter() - begun
        items += len(batch["ids"])
        if step % max(1, loader.steps // LOOKS) == 0:
            memory.append(round(own_memory(), 1))
    return {
        "samples": count,
        "missing": missing,
        "items": items,
        "seconds_to_open": round(opened, 2),
        "seconds_to_know_that_all_are_prepared": round(looked, 2),
        "seconds_to_the_first_batch": round(first or 0, 2),
        "items_a_second": round(items / (time.perf_counter() - begun - (first or 0))),
        "own_memory_mb": memory,
    }


def write(folder: Path, count: int) -> None:
    data = dataset(folder, count)
    cases = data.cases("all")
    arrays, meta = pack(prepare_record(data.source.load(cases[0]), cases[0], data.steps))
    images = np.random.default_rng(0).random((997, 1, 32, 32), np.float32)
    assert data.cache is not None
    with data.cache.writer() as writer:
        for i, key in enumerate(data.keys.all(cases)):
            writer.add(key.tobytes().hex(), {**arrays, "image": images[i % len(images)]}, meta)


def steps(folder: Path, count: int) -> Iterator[tuple[str, Any]]:
    begun = time.perf_counter()
    write(folder, count)
    yield "seconds_to_write", round(time.perf_counter() - begun, 1)
    files = list((folder / "shards").iterdir())
    yield "files", len(files)
    yield "bytes", sum(file.stat().st_size for file in files)
    command = [sys.executable, __file__, "--samples", str(count), "--folder", str(folder), "--epoch"]
    yield "epoch", json.loads(subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout)


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--epoch", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.epoch:
        print(json.dumps(epoch(given.folder, given.samples)))
        return
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        found = dict(steps(Path(name), given.samples))
    memory = found["epoch"]["own_memory_mb"]
    found["growth_mb"] = round(memory[-1] - memory[len(memory) // 4], 1)
    print(json.dumps(found, indent=1))
    content = {"environment": environment(torch.device("cpu"), []), **found}
    replace(Path("benchmarks/results/million.json"), json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
