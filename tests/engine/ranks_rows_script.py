"""Two ranks train by a loss that compares every item with all; what comes of it against one process with all items."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from medkit.engine.agreement import FailedTogether
from medkit.engine.events import Events
from medkit.engine.optimizers import Optimization
from medkit.engine.runtime import Runtime
from medkit.engine.settings import TrainingSettings
from medkit.engine.trainer import Trainer
from medkit.parts.across_ranks import gather_rows
from medkit.parts.optimizers import SGD
from medkit.parts.schedules import Constant
from medkit.protocols import Turn


class Contrast(nn.Module):
    """Two views of an item are alike (InfoNCE, a mean over own rows); beside it a covariance of all rows."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(3, 8), nn.Linear(8, 4)

    def turns(self) -> list[Turn]:
        return [Turn("train", ("body", "head"), "pcgrad" if self.mode == "pcgrad" else "sum")]

    def parts(self) -> dict[str, nn.Module]:
        return {"body": self.body, "head": self.head}

    def shared_parameters(self, turn: str) -> list[nn.Parameter]:
        return list(self.body.parameters())

    def losses(self, turn: str, batch: dict) -> dict[str, torch.Tensor]:
        if self.mode == "fails" and "e" in batch["ids"]:
            raise ValueError("cannot look at item e")
        one, two = (F.normalize(self.head(torch.tanh(self.body(batch[name]))), dim=1) for name in ("x", "y"))
        if self.mode == "forgets" and "e" in batch["ids"]:
            return {"info": one.square().mean()}
        others, first = gather_rows(two)
        own = torch.arange(first, first + len(one))
        info = F.cross_entropy(one @ others.T / 0.2, own)
        every, _ = gather_rows(one)
        centred = every - every.mean(0)
        covariance = centred.T @ centred / len(every)
        return {"info": info, "covariance": covariance.triu(1).square().sum()}


class Loader:
    steps = 3

    def __init__(self, items: slice) -> None:
        self.items = items

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict]:
        for step in range(start, self.steps):
            made = torch.Generator().manual_seed(step)
            x = torch.randn(6, 3, generator=made)
            y = x + 0.1 * torch.randn(6, 3, generator=made)
            yield {"x": x[self.items], "y": y[self.items], "ids": list("abcdef")[self.items]}


def train(task: Contrast, items: slice, runtime: Runtime, folder: Path) -> None:
    optimizations = {"train": Optimization(SGD(lr=0.5), Constant())}
    accumulate = 2 if task.mode == "accumulate" else 1
    settings = TrainingSettings("s", epochs=1, seed=0, optimizations=optimizations, accumulate=accumulate)
    Trainer(task, Loader(items), settings, runtime, folder, Events()).fit()


def tried(runtime: Runtime, mode: str, first: int, folder: Path) -> str:
    """What becomes of two ranks, the first of which has so many items of six."""
    mine = Contrast(mode)
    try:
        train(mine, slice(0, first) if runtime.is_main else slice(first, 6), runtime, folder)
    except FailedTogether as error:
        return f"failed together: {error.__cause__}"
    alone = Contrast(mode)
    with tempfile.TemporaryDirectory() as scratch:
        train(alone, slice(0, 6), Runtime(torch.device("cpu")), Path(scratch))
    for p, q in zip(mine.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert (alone.body.weight - Contrast(mode).body.weight).abs().max() > 0.01, "something was learned"
    return "trained alike"


*tries, place = sys.argv[1:]
runtime, folder = Runtime.start(device="cpu"), Path(place)
for text in tries:
    mode, first = text.split()
    found = tried(runtime, mode, int(first), folder / text)
    (folder / f"{text} {runtime.rank}").write_text(found)
runtime.strategy.barrier("the end")
os._exit(0)
