"""Two ranks train by losses that compare rows of all; what comes of it against one process with all items."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from medkit_ssl.dino import DINO
from medkit_ssl.moco import MoCo
from medkit_ssl.simclr import SimCLR
from medkit_ssl.vicreg import VICReg
from torch import Tensor, nn

from medkit.engine.events import Events
from medkit.engine.optimizers import Optimization
from medkit.engine.runtime import Runtime
from medkit.engine.settings import TrainingSettings
from medkit.engine.trainer import Trainer
from medkit.parts.optimizers import SGD
from medkit.parts.schedules import Constant
from medkit.protocols import Turn


class Compared(nn.Module):
    """Rows of a linear layer under the losses of four heads, whose own networks have no part in it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(3, 6)
        self.teacher = nn.Linear(3, 6).requires_grad_(False)
        self.heads = nn.ModuleDict(
            {
                "simclr": SimCLR((2,), 0.5, 2, 6),
                "vicreg": VICReg((2,), width=6),
                "moco": MoCo((2,), 0.5, 2, 6),
                "dino": DINO((2,), prototypes=6, hidden=2, bottleneck=2),
            }
        ).requires_grad_(False)

    def turns(self) -> list[Turn]:
        return [Turn("train", ("body",))]

    def parts(self) -> dict[str, nn.Module]:
        return {"body": self.body}

    def losses(self, turn: str, batch: dict[str, Any]) -> dict[str, Tensor]:
        views = batch["views"]
        said, wanted, heads = self.body(views), self.teacher(views), self.heads
        found = {name: heads[name].loss(said.flatten(0, 1), views) for name in ("simclr", "vicreg")}
        found |= {name: heads[name].loss([said], [wanted], 0.5) for name in ("moco", "dino")}
        return {name: torch.stack(list(terms.values())).sum() for name, terms in found.items()}


class Loader:
    steps = 3

    def __init__(self, items: slice) -> None:
        self.items = items

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        for step in range(start, self.steps):
            views = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(step))
            yield {"views": views[self.items], "ids": list("abcde")[self.items]}


def train(items: slice, runtime: Runtime, folder: Path) -> Compared:
    task = Compared()
    settings = TrainingSettings("s", epochs=1, seed=0, optimizations={"train": Optimization(SGD(lr=0.05), Constant())})
    Trainer(task, Loader(items), settings, runtime, folder, Events()).fit()
    return task


def main() -> None:
    folder = Path(sys.argv[1])
    runtime = Runtime.start(device="cpu")
    task = train(slice(0, 3) if runtime.rank == 0 else slice(3, 5), runtime, folder / str(runtime.rank))
    with tempfile.TemporaryDirectory() as scratch:
        alone = train(slice(0, 5), Runtime(torch.device("cpu")), Path(scratch))
    assert torch.allclose(task.body.weight, alone.body.weight, atol=1e-6), (task.body.weight - alone.body.weight).abs()
    centre = task.heads["dino"].centre
    assert torch.allclose(centre, alone.heads["dino"].centre, atol=1e-6)
    torch.save(centre, folder / f"centre{runtime.rank}.pt")


main()
