"""Losses on held-out cases: the same cases each time, and a training that does not notice."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import fit
from torch import Tensor, nn

from medkit.engine.held_out import HeldOutLosses
from medkit.engine.runtime import Runtime
from medkit.parts.optimizers import Adam
from medkit.parts.schedules import Constant
from medkit.protocols import Turn
from medkit.testing.common import python_and_numpy_rest

CPU = Runtime(torch.device("cpu"))


class Task(nn.Module):
    """Noisy, with batch statistics, and a centre that its loss moves whatever the mode, by a buffer put in its place."""

    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.register_buffer("centre", torch.zeros(1))

    def turns(self) -> list[Turn]:
        return [Turn("train", ("net",))]

    def parts(self) -> dict[str, nn.Module]:
        return {"net": self.net}

    def losses(self, turn: str, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        noisy = batch["x"] + 0.1 * torch.randn_like(batch["x"]) + random.random() + float(np.random.rand())
        x = noisy.requires_grad_()
        output = self.net(x)
        (slope,) = torch.autograd.grad(output.sum(), x, create_graph=True)
        self.centre = 0.9 * self.centre + 0.1 * output.detach().mean()
        return {"square": (output - self.centre).square().mean(), "penalty": slope.square().mean()}


class Loader:
    steps = 3

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        for step in range(start, 3):
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(10 * epoch + step))
            yield {"x": x, "ids": []}


def held_out() -> Iterator[tuple[int, dict[str, Any], int]]:
    for number, size in enumerate((3, 1)):
        yield number, {"x": torch.full((size, 3), float(number)), "ids": []}, size


def losses(task: nn.Module, **options: Any) -> HeldOutLosses:
    return HeldOutLosses(task, held_out, 1, CPU, lambda text: None, **options)


def test_a_training_that_is_validated_by_losses_ends_with_the_same_bits(tmp_path: Path) -> None:
    alone, watched = Task(), Task()
    options: dict[str, Any] = {
        "epochs": 3,
        "optimizers": {"train": Adam(lr=0.01)},
        "schedules": {"train": Constant()},
    }
    fit(alone, Loader(), tmp_path / "alone", **options)
    measure, found = losses(watched), []

    def validate(epoch: int) -> dict[str, float]:
        before = torch.get_rng_state()
        with python_and_numpy_rest("measuring"):
            found.append(measure())
        assert torch.equal(torch.get_rng_state(), before)
        return {f"val/{name}": value for name, value in found[-1].items()}

    fit(watched, Loader(), tmp_path / "watched", validate=validate, **options)
    assert len(found) == 3
    assert found[0] != found[2], "it has learned"
    for name, value in alone.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name
    assert all(p.grad is None or p.grad.isfinite().all() for p in watched.parameters())


def test_the_same_weights_have_the_same_losses_each_time() -> None:
    task = Task()
    measure = losses(task)
    assert measure() == measure()


class Means(Task):
    def losses(self, turn: str, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        assert not self.training
        return {"a": batch["x"].mean() + 0 * self.centre.sum(), "b": torch.ones(())}


def test_every_case_counts_alike_and_a_single_turn_has_a_total() -> None:
    assert losses(Means())() == {"a": 0.25, "b": 1.0, "loss": 1.25}


class Faulty(Task):
    faulty = True

    def losses(self, turn: str, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        if self.faulty:
            raise ValueError("not in evaluation mode")
        return super().losses(turn, batch)


def test_losses_that_cannot_be_computed_are_left_out_told_once_and_tried_again() -> None:
    """A resumed training does not know what has failed before."""
    said: list[str] = []
    task = Faulty()
    measure = HeldOutLosses(task, held_out, 1, CPU, said.append)
    assert measure() == measure() == {}
    task.faulty = False
    assert measure() == losses(task)() != {}
    assert len(said) == 1
    assert "ValueError: not in evaluation mode (test_held_out.py:" in said[0]


def test_losses_that_decide_the_end_and_cannot_be_computed_end_the_training() -> None:
    with pytest.raises(ValueError, match="not in evaluation mode"):
        losses(Faulty(), needed=True)()
