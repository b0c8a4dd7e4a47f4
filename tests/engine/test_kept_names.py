"""What medkit 0.1 called its engine still trains, until 0.3."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from helpers import fit
from torch import nn

from medkit.engine.runtime import Runtime
from medkit.parts.optimizers import Adam
from medkit.parts.schedules import Constant
from medkit.protocols import Turn
from medkit.recipe.model import Unfreeze


class Task(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(2, 1)

    def turns(self) -> list[Turn]:
        return [Turn("train", ("net",))]

    def parts(self) -> dict[str, nn.Module]:
        return {"net": self.net}

    def losses(self, turn: str, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {"square": self.net(batch["x"]).square().mean()}


class Loader:
    steps = 2

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        for step in range(start, 2):
            yield {"x": torch.ones(3, 2) + step, "ids": []}


def test_train_stage_trains_as_the_trainer_does(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from medkit.engine.stage import train_stage
    how: dict[str, Any] = {"optimizers": {"train": Adam(lr=0.1)}, "schedules": {"train": Constant()}, "epochs": 3}
    new, old, lines, resumed = Task(), Task(), [], []
    fit(new, Loader(), tmp_path / "new", validate=lambda epoch: {"val/x": -epoch}, **how)
    told: dict[str, Any] = {"log": lines.append, "on_resume": resumed.append, "keep_best": ("val/x", True)}
    state = train_stage(
        old,
        Loader(),
        name="small",
        seed=0,
        runtime=Runtime(torch.device("cpu")),
        folder=tmp_path / "old",
        validate=lambda epoch: {"val/x": epoch},
        **how,
        **told,
    )
    assert torch.equal(new.net.weight, old.net.weight)
    assert state.best_epoch == 3
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[0]["val/x"] == 0
    assert resumed == [1]


def test_thaw_opens_what_unfreeze_does() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from medkit.engine.thaw import thaw
    task = Task()
    assert thaw(task, Unfreeze("net", after=1), 0) == set()
    assert not task.net.weight.requires_grad
    assert thaw(task, Unfreeze("net", after=1), 1) == {"encoder"}
    assert task.net.weight.requires_grad
