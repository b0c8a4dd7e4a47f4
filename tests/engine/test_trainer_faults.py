"""A stage that meets a broken checkpoint, a disk that takes no more, or weights that are no numbers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import fit
from torch import nn

from medkit.engine import checkpoint
from medkit.engine.runtime import seed_step, shared_generator
from medkit.errors import InputError, RunError
from medkit.parts.optimizers import Adam
from medkit.parts.schedules import Constant
from medkit.protocols import Turn


class Task(nn.Module):
    def __init__(self, bad_from: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(2, 1)
        self.bad_from, self.count = bad_from, 0

    def turns(self) -> list[Turn]:
        return [Turn("train", ("net",))]

    def parts(self) -> dict[str, nn.Module]:
        return {"net": self.net}

    def losses(self, turn: str, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        output = self.net(batch["x"])
        self.count += 1
        if self.bad_from is not None and self.count >= self.bad_from:
            # The root of zero is finite and its slope is not.
            return {"root": ((output - output.detach()).sum()).abs().sqrt()}
        return {"square": output.square().mean()}


class Loader:
    steps = 2

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        for step in range(start, 2):
            yield {"x": torch.ones(3, 2) + step, "ids": [f"case{step}"]}


def train(folder: Path, task: Task | None = None, **options: Any) -> Any:
    settings: dict[str, Any] = {"epochs": 2, "optimizers": {"train": Adam(lr=1e-2)}, **options}
    return fit(task or Task(), Loader(), folder, schedules={"train": Constant()}, **settings)


def test_weights_that_are_no_numbers_never_reach_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"weights are not finite after epoch 2, step 2: net\.weight"):
        train(tmp_path, Task(bad_from=4))
    tensors, state = checkpoint.read_tensors(tmp_path / checkpoint.LAST)
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert state["position"]["epoch"] == 1


def test_a_resumed_stage_with_a_corrupt_checkpoint_says_which_one_is_good(tmp_path: Path) -> None:
    train(tmp_path)
    last = tmp_path / checkpoint.LAST
    last.write_bytes(last.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match=r"last\.safetensors: .*corrupt.*previous\.safetensors, is kept"):
        train(tmp_path)


def test_without_its_last_checkpoint_a_stage_goes_on_from_the_one_before(tmp_path: Path) -> None:
    train(tmp_path)
    straight = checkpoint.read_tensors(tmp_path / checkpoint.LAST)[0]
    (tmp_path / checkpoint.LAST).unlink()
    train(tmp_path)
    again = checkpoint.read_tensors(tmp_path / checkpoint.LAST)[0]
    assert all(torch.equal(again[name], tensor) for name, tensor in straight.items())


def test_a_checkpoint_of_another_stage_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(InputError, match="a checkpoint of stage 'small', not 'other'"):
        train(tmp_path, stage="other")


def test_a_finished_stage_does_not_train_again(tmp_path: Path) -> None:
    train(tmp_path)
    task = Task()
    train(tmp_path, task)
    assert task.count == 0


LIMITED = """
import resource, sys, torch
from pathlib import Path
from medkit.engine import checkpoint
from medkit.errors import RunError
path = Path(sys.argv[1]) / checkpoint.LAST
checkpoint.write_tensors(path, {"w": torch.ones(10)}, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.write_tensors(path, {"w": torch.zeros(100_000)}, {})
except RunError as error:
    print(error)
"""


def test_a_write_the_system_cuts_short_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True)
    assert "last.safetensors: cannot be written:" in done.stdout, done.stderr
    assert torch.equal(checkpoint.read_tensors(tmp_path / checkpoint.LAST)[0]["w"], torch.ones(10))
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.LAST]


def test_every_step_and_rank_draws_its_own_numbers_and_always_the_same() -> None:
    def drawn(*place: int) -> float:
        seed_step(*place)
        return float(torch.rand(1))

    places = [(1, 0, 0, 0), (2, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1)]
    first = [drawn(*place) for place in places]
    assert len(set(first)) == len(places)
    assert [drawn(*place) for place in places] == first


def test_the_order_of_projections_is_not_drawn_from_the_step_s_numbers() -> None:
    seed_step(1, 2, 3, 0)
    before = torch.get_rng_state()
    torch.randperm(9, generator=shared_generator(1, 2, 3))
    assert torch.equal(torch.get_rng_state(), before)


def test_seeding_without_a_gpu_queues_nothing() -> None:
    if torch.cuda.is_initialized():
        pytest.skip("a GPU is in use")
    before = len(torch.cuda._queued_calls)
    for step in range(5):
        seed_step(0, 0, step, 0)
    assert len(torch.cuda._queued_calls) == before
