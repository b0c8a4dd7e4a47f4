"""Batches made by processes: the same bits as a thread's, whatever they are started by, and a clean end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medkit.data.augment import GaussNoise, ShiftScaleRotate
from medkit.data.dataset import Dataset
from medkit.data.draws import draw_of
from medkit.data.loader import Augmentation, Loader
from medkit.data.sampler import Sampler
from medkit.data.transforms import MinMax, Resize
from medkit.data.workers import count_workers
from medkit.errors import InputError, RunError

Make = Callable[..., Any]
STEPS = [MinMax(), Resize((16, 20))]
AUGMENT = [ShiftScaleRotate(p=1.0), GaussNoise(p=1.0)]


@pytest.fixture
def made(source: Make, tmp_path: Path) -> Iterator[Callable[..., Loader]]:
    loaders = []

    def make(workers: int, unit: Any = "slice", **options: Any) -> Loader:
        data = Dataset(source(n=8), {"train": {}}, STEPS, tmp_path)
        cases = data.cases("train")
        found = Loader(data, cases, Sampler(8, 2, 3, **options), draw_of(unit), Augmentation(AUGMENT), workers)
        loaders.append(found)
        return found

    yield make
    for loader in loaders:
        loader.close()


def all_same(a: Any, b: Any) -> bool:
    return all(
        x.keys() == y.keys()
        and all(torch.equal(x[k], y[k]) if isinstance(x[k], torch.Tensor) else x[k] == y[k] for k in x)
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("unit", ["slice", "volume"])
@pytest.mark.parametrize("workers", [1, 2])
def test_processes_make_the_batches_of_the_thread_bit_for_bit(made: Any, workers: int, unit: str) -> None:
    thread, processes = made(0, unit), made(workers, unit)
    for epoch in (0, 1, 5):
        straight = list(thread.epoch(epoch))  # a thread that holds a lock while processes are forked stops them
        assert all_same(straight, processes.epoch(epoch))


def test_batches_that_are_kept_stay_as_they_were(made: Any) -> None:
    thread, processes = made(0), made(2)
    kept = [batch for epoch in range(4) for batch in processes.epoch(epoch)]
    assert all_same([batch for epoch in range(4) for batch in thread.epoch(epoch)], kept)


def test_an_epoch_started_later_by_processes_is_what_is_left_of_it(made: Any) -> None:
    straight = list(made(0).epoch(2))
    processes = made(2)
    assert all_same(processes.epoch(2, start=3), straight[3:])
    assert all_same(processes.epoch(2, start=1), straight[1:])


def test_ranks_share_the_epoch_among_their_processes(made: Any) -> None:
    for rank in range(2):
        straight = list(made(0, rank=rank, ranks=2).epoch(0))
        assert all_same(straight, made(1, rank=rank, ranks=2).epoch(0))


def test_processes_live_from_epoch_to_epoch(made: Any) -> None:
    loader = made(2)
    list(loader.epoch(0))
    first = {child.pid for child in torch.multiprocessing.active_children()}
    list(loader.epoch(1))
    assert {child.pid for child in torch.multiprocessing.active_children()} == first


def test_processes_do_not_touch_the_generators_of_the_training(made: Any) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(made(2).epoch(0))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


@pytest.mark.parametrize("leave", ["close", "epoch"])
def test_leaving_ends_the_processes_without_waiting_for_a_time_out(made: Any, leave: str) -> None:
    loader = made(2)
    batches = loader.epoch(0)
    next(batches)
    workers = torch.multiprocessing.active_children()
    begun = time.monotonic()
    (loader if leave == "close" else batches).close()
    assert not any(worker.is_alive() for worker in workers)
    assert time.monotonic() - begun < 5  # torch would kill them then


def test_a_killed_process_is_an_error_that_names_the_cases(made: Any) -> None:
    loader = made(1)
    batches = loader.epoch(0)
    next(batches)
    os.kill(torch.multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(RunError, match=r"epoch 1, step \d \(cases c\d, c\d\).*has ended.*Fewer workers"):
        list(batches)


class Broken:
    """An augmentation that fails at the third case, whose voxels are those of 'c2'."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, arrays: Any, rng: np.random.Generator) -> Any:
        if arrays["image"].shape[0] == 6:
            raise self.error
        return arrays


@pytest.mark.parametrize("workers", [0, 1])
def test_an_exception_in_an_item_names_its_case(made: Any, workers: int) -> None:
    loader = made(0, "volume")
    loader.augmentation.chain = Broken(ValueError("no such angle"))
    broken = Loader(loader.dataset, loader.cases, loader.sampler, loader.draw, loader.augmentation, workers)
    with pytest.raises(RunError, match=r"(?s)case 'c[258]'.*ValueError: no such angle"):
        list(broken.epoch(0))
    broken.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_wrong_input_stays_wrong_input(made: Any, workers: int) -> None:
    loader = made(0, "volume")
    loader.augmentation.chain = Broken(InputError("the file is cut short", "c7.dcm"))
    broken = Loader(loader.dataset, loader.cases, loader.sampler, loader.draw, loader.augmentation, workers)
    with pytest.raises(InputError, match=r"^c7\.dcm: the file is cut short$"):
        list(broken.epoch(0))
    broken.close()


STARTS = """
import sys
from functools import partial
import torch
from medkit.data.workers import WorkerBatches
def make(size, key):
    return {"image": torch.full((size,), 10.0 * key[0] + key[1])}
if __name__ == "__main__":
    batches = WorkerBatches(partial(make, 3), 3, 2, start=sys.argv[1])
    print([int(batch["image"][0]) for epoch in range(2) for batch in batches.epoch(epoch, 0)])
    batches.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "start", ["spawn", *(pytest.param(way, marks=pytest.mark.nightly) for way in ("fork", "forkserver"))]
)
def test_every_way_to_start_processes_gives_the_same(start: str, tmp_path: Path) -> None:
    (tmp_path / "starts.py").write_text(STARTS)
    done = subprocess.run([sys.executable, tmp_path / "starts.py", start], capture_output=True, text=True)
    assert done.stdout == "[0, 1, 2, 10, 11, 12]\n", done.stderr


SCRIPT = """
import os, sys, time
from functools import partial
import torch
from medkit.data.workers import WorkerBatches
def make(key):
    return {"image": torch.zeros(3)}
batches = WorkerBatches(make, 1000, 2).epoch(0, 0)
next(batches)
print(*[child.pid for child in torch.multiprocessing.active_children()], flush=True)
time.sleep(100)
"""


def test_no_process_outlives_a_killed_training() -> None:
    training = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True)
    assert training.stdout is not None
    workers = [int(text) for text in training.stdout.readline().split()]
    assert len(workers) == 2
    training.kill()
    training.wait()
    training.stdout.close()
    deadline = time.monotonic() + 5
    while (alive := [pid for pid in workers if Path(f"/proc/{pid}/stat").exists() and not zombie(pid)]) != []:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)


def zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_auto_leaves_a_cpu_to_the_network() -> None:
    assert count_workers("auto", on_gpu=False) == 0
    assert 0 <= count_workers("auto", on_gpu=True) <= 8
    assert count_workers(3, on_gpu=False) == 3
