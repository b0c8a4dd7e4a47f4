"""Two ranks train by a recipe of turns; each writes the spread of its weights from rank 0's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from medkit.engine.events import Events
from medkit.engine.optimizers import Optimization
from medkit.engine.runtime import Runtime
from medkit.engine.settings import TrainingSettings
from medkit.engine.trainer import Trainer
from medkit.parts.optimizers import AdamW
from medkit.parts.schedules import Constant
from medkit.protocols import Turn
from medkit.recipe.model import Unfreeze


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x)).mean((2, 3))

    def stages(self) -> list[tuple[str, nn.Module]]:
        return [("first", self.first), ("second", self.second)]


class TwoTasks(nn.Module):
    def __init__(self, combine: str) -> None:
        super().__init__()
        self.combine = combine
        self.encoder, self.a, self.b = Encoder(), nn.Linear(4, 1), nn.Linear(4, 1)

    def turns(self) -> list[Turn]:
        return [Turn("train", ("encoder", "a", "b"), self.combine)]

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "a": self.a, "b": self.b}

    def shared_parameters(self, turn: str) -> list[nn.Parameter]:
        return list(self.encoder.parameters())

    def losses(self, turn: str, batch: dict) -> dict[str, torch.Tensor]:
        h = nn.functional.dropout(self.encoder(batch["image"]), 0.2)
        return {"a": (self.a(h) - 1).square().mean(), "b": (self.b(h) + 1).square().mean()}


class Loader:
    steps = 3

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict]:
        for step in range(start, 3):
            made = torch.Generator().manual_seed(100 * epoch + 10 * step + dist.get_rank())
            yield {"image": torch.rand(4, 1, 8, 8, generator=made), "ids": []}


mode, folder = sys.argv[1], Path(sys.argv[2])
runtime = Runtime.start(device="cpu")
torch.manual_seed(runtime.rank)  # different starts: the engine has to make them one
model = TwoTasks("pcgrad" if mode == "pcgrad" else "sum")
settings = TrainingSettings(
    stage="two",
    epochs=4,
    optimizations={"train": Optimization(AdamW(lr=1e-2), Constant())},
    unfreeze=Unfreeze("encoder", after=1, every=1) if mode == "unfreeze" else None,
    seed=1,
)
Trainer(model, Loader(), settings, runtime, folder, Events()).fit()
mine = torch.cat([t.detach().double().reshape(-1) for t in model.state_dict().values()])
other = mine.clone()
dist.broadcast(other, 0)
(folder / f"spread{runtime.rank}").write_text(repr(float((mine - other).abs().max())))
dist.barrier()
dist.destroy_process_group()
