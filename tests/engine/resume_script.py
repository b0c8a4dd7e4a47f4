"""Trains a small adversarial objective with dropout and batch norm; kills itself at a step if told to."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from medkit.engine.events import Events
from medkit.engine.optimizers import Optimization
from medkit.engine.progress import Progress
from medkit.engine.runtime import Runtime
from medkit.engine.settings import TrainingSettings
from medkit.engine.trainer import Trainer
from medkit.objectives.adversarial import Adversarial
from medkit.parts.optimizers import Adam
from medkit.parts.schedules import Poly
from medkit.registry.marks import Placed
from medkit.runs.listeners import ShowProgress

STEPS = 4


class Generator(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(4, 1, 3, padding=1)
        )


class Discriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 4, 3, padding=1))
        self.cls, self.rec = nn.Linear(4, 1), nn.Conv2d(4, 1, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = torch.relu(self.encoder(x))
        return {"cls": self.cls(h.mean((2, 3))), "rec": self.rec(h)}

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        return self.encoder.parameters()


class Term(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, a, b, **context):
        return self.function(a, b, context)


class Loader:
    """Batches as a function of (epoch, position); kills the process before a given step."""

    steps = STEPS

    def __init__(self, kill: int | None) -> None:
        self.kill = kill

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict]:
        for step in range(start, STEPS):
            if self.kill is not None and epoch * STEPS + step == self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            made = torch.Generator().manual_seed(1000 * epoch + step)
            image = torch.rand(3, 1, 8, 8, generator=made)
            yield {"image": image, "target": image.flip(-1), "ids": ["a", "b", "c"]}


def objective() -> Adversarial:
    torch.manual_seed(0)
    losses = {
        "adversarial": Term(lambda real, fake, c: (real["cls"] - 1).square().mean() + fake["cls"].square().mean()),
        "reconstruct": Term(lambda real, fake, c: (real["rec"] - c["target"]).abs().mean()),
    }
    pixel = Term(lambda output, target, c: (output - target).square().mean() + (c["scores"]["cls"] - 1).square().mean())
    return Adversarial(
        Generator(),
        Discriminator(),
        {"pixel": Placed(pixel, {"weight": 1.0})},
        {name: Placed(loss, {"weight": 1.0}) for name, loss in losses.items()},
        {"discriminator": "pcgrad"},
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill", type=int)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    with Progress() as progress:
        settings = TrainingSettings(
            stage="small",
            epochs=given.epochs,
            optimizations=dict.fromkeys(("discriminator", "generator"), Optimization(Adam(lr=1e-2), Poly(warmup=1))),
            seed=5,
            checkpoint_seconds=0.0,
        )
        events, runtime = Events(own=[ShowProgress(progress)]), Runtime.start(device="cpu")
        Trainer(objective(), Loader(given.kill), settings, runtime, given.folder, events).fit()


main()
