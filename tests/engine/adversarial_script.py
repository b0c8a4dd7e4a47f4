"""Trains a small adversarial objective with several critic steps and an average; kills itself at a step if told to.

Under torch's launcher, each rank writes the spread of its tensors from rank 0's.
"""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from medkit_baselines.losses_wgan import WassersteinCritic, WassersteinGenerator
from medkit_baselines.wgan_vgg import Critic
from torch import nn

from medkit.engine.events import Events
from medkit.engine.optimizers import Optimization
from medkit.engine.progress import Progress
from medkit.engine.runtime import Runtime
from medkit.engine.settings import TrainingSettings
from medkit.engine.trainer import Trainer
from medkit.objectives.adversarial import Adversarial
from medkit.parts.losses import MSE
from medkit.parts.optimizers import Adam
from medkit.parts.schedules import Constant
from medkit.registry.marks import Placed
from medkit.runs.listeners import ShowProgress

STEPS = 3


class Generator(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))


class Loader:
    """Batches as a function of (epoch, position) and rank; kills the process before a given step."""

    steps = STEPS

    def __init__(self, kill: int | None, rank: int) -> None:
        self.kill, self.rank = kill, rank

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict]:
        for step in range(start, STEPS):
            if self.kill is not None and epoch * STEPS + step == self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            made = torch.Generator().manual_seed(1000 * epoch + 10 * step + self.rank)
            image = torch.rand(2, 1, 8, 8, generator=made)
            yield {"image": image, "target": image.flip(-1), "ids": ["a", "b"]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill", type=int)
    given = parser.parse_args()
    runtime = Runtime.start(device="cpu")
    torch.manual_seed(runtime.rank)  # different starts: the engine has to make them one
    objective = Adversarial(
        Generator(),
        Critic(width=2, hidden=4, pool=2),
        {"fool": Placed(WassersteinGenerator(), {"weight": 0.1}), "mse": Placed(MSE(), {"weight": 1.0})},
        {"critic": Placed(WassersteinCritic(), {"weight": 1.0})},
        critic_steps=3,
        ema=0.9,
    )
    with Progress(quiet=runtime.world_size > 1) as progress:
        settings = TrainingSettings(
            stage="small",
            epochs=2,
            optimizations=dict.fromkeys(("discriminator", "generator"), Optimization(Adam(lr=1e-2), Constant())),
            seed=5,
            checkpoint_seconds=0.0,
        )
        loader, events = Loader(given.kill, runtime.rank), Events(own=[ShowProgress(progress)])
        Trainer(objective, loader, settings, runtime, given.folder, events).fit()
    if runtime.world_size > 1:
        mine = torch.cat([t.detach().double().reshape(-1) for t in objective.state_dict().values()])
        first = mine.clone()
        dist.broadcast(first, 0)
        (given.folder / f"spread{runtime.rank}").write_text(repr(float((mine - first).abs().max())))
        dist.barrier()
        dist.destroy_process_group()


main()
