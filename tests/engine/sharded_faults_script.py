"""Two ranks that divide a part: the main rank's disk fills up, or one rank's slice overflows. Each writes what ended it."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from medkit.engine.agreement import FailedTogether
from medkit.engine.divided import is_divided, own_slice
from medkit.engine.events import Events
from medkit.engine.optimizers import Optimization
from medkit.engine.runtime import Runtime
from medkit.engine.settings import Criterion, TrainingSettings
from medkit.engine.sharded import Division
from medkit.engine.trainer import Trainer
from medkit.parts.optimizers import Adam
from medkit.parts.schedules import Constant
from medkit.protocols import Turn

LIMIT = 4000  # bytes; half of the weights


class Task(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(32, 64)
        self.overflows = False

    def turns(self) -> list[Turn]:
        return [Turn("train", ("net",))]

    def parts(self) -> dict[str, nn.Module]:
        return {"net": self.net}

    def losses(self, turn: str, batch: Mapping) -> dict[str, torch.Tensor]:
        return {"square": self.net(batch["x"]).square().mean()}

    def after_step(self, turn: str) -> None:
        if self.overflows:
            own_slice(self.net.weight.detach()).fill_(torch.inf)


class Loader:
    steps = 1

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict]:
        yield {"x": torch.ones(2, 32), "ids": ["a", "b"]}


def validate(epoch: int) -> Mapping[str, float]:
    if mode == "disk" and runtime.is_main:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))  # the first checkpoint is written
    return {"val/auc": 0.5 + epoch}


folder, runtime = Path(sys.argv[1]), Runtime.start(device="cpu")
optimizations, best = {"train": Optimization(Adam(), Constant())}, Criterion("val/auc", True)
settings = TrainingSettings("s", 2, 0, optimizations, shard=("net",), keep_best=best)
for mode in ("disk", "overflow"):
    division = Division.of(Task(), ("net",), runtime)
    assert is_divided(division.objective.net.weight)
    division.objective.overflows = mode == "overflow" and runtime.rank == 1
    measuring = division.measuring(validate)
    try:
        Trainer(division.objective, Loader(), settings, division.runtime, folder / mode, Events(), measuring).fit()
        told = "nothing"
    except FailedTogether as error:
        told = str(error.__cause__)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    (folder / f"{mode}{runtime.rank}").write_text(told)
    runtime.strategy.barrier("the end")
os._exit(0)
