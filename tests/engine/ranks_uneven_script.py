"""Two ranks with batches of three and of two items; what they train and log against one process that sees all five."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from medkit.engine.events import EpochEnded, Events
from medkit.engine.optimizers import Optimization
from medkit.engine.runtime import Runtime
from medkit.engine.settings import TrainingSettings
from medkit.engine.trainer import Trainer
from medkit.parts.optimizers import SGD
from medkit.parts.schedules import Constant
from medkit.protocols import Turn

FIRST = 3  # items of rank 0; rank 1 has the others of five


class Task(nn.Module):
    def __init__(self, combine: str) -> None:
        super().__init__()
        self.combine = combine
        torch.manual_seed(0)
        self.body, self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 1)

    def turns(self) -> list[Turn]:
        return [Turn("train", ("body", "a", "b"), self.combine)]

    def parts(self) -> dict[str, nn.Module]:
        return {"body": self.body, "a": self.a, "b": self.b}

    def shared_parameters(self, turn: str) -> list[nn.Parameter]:
        return list(self.body.parameters())

    def losses(self, turn: str, batch: dict) -> dict[str, torch.Tensor]:
        h = torch.tanh(self.body(batch["x"]))
        losses = {"a": (self.a(h) - 3).square().mean(), "b": (self.b(h) + 2).square().mean()}
        if "rare" in batch:  # only the last batch of rank 1 has it
            losses["rare"] = 0.1 * losses["a"]
            self.rare = losses["rare"].item()
        return losses


class Loader:
    steps = 2

    def __init__(self, items: slice, rare: bool) -> None:
        self.items, self.rare = items, rare

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict]:
        for step in range(start, self.steps):
            x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))[self.items]
            yield {"x": x, "ids": list("abcde")[self.items], **({"rare": 1} if self.rare and step == 1 else {})}


class Logged:
    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def epoch_ended(self, event: EpochEnded) -> None:
        self.metrics = dict(event.metrics)


def train(task: Task, loader: Loader, runtime: Runtime, folder: Path) -> dict[str, float]:
    optimizations = {"train": Optimization(SGD(lr=0.05), Constant())}
    settings = TrainingSettings(stage="s", epochs=1, seed=0, optimizations=optimizations)
    logged = Logged()
    Trainer(task, loader, settings, runtime, folder, Events(own=[logged])).fit()
    return logged.metrics


mode, folder = sys.argv[1], Path(sys.argv[2])
runtime = Runtime.start(device="cpu")
combine = "pcgrad" if mode == "pcgrad" else "sum"
alone, mine = Task(combine), Task(combine)
with tempfile.TemporaryDirectory() as scratch:
    expected = train(alone, Loader(slice(0, 5), False), Runtime(torch.device("cpu")), Path(scratch))
items = slice(0, FIRST) if runtime.is_main else slice(FIRST, 5)
found = train(mine, Loader(items, mode == "rare" and not runtime.is_main), runtime, folder)
if mode != "rare":
    for p, q in zip(mine.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    torch.testing.assert_close(found["train/a"], expected["train/a"])
elif not runtime.is_main:
    assert found["train/rare"] == mine.rare, "of the one batch that has it"
assert ("train/rare" in found) == (mode == "rare")
(folder / f"agreed{runtime.rank}").write_text(repr({k: v for k, v in sorted(found.items()) if "train/" in k}))
runtime.strategy.barrier("the end")
os._exit(0)
