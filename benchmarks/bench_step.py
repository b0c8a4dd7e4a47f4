"""The engine's training step against a bare hand-written torch loop on the same small conv net.

The engine does everything it always does: seeding, the check for losses that are not finite, sums for the log, progress,
the checkpoint at an epoch's end. Both end with exactly the same weights. ``checkpointing`` measures the time that the
recipe option of that name costs and the memory it saves.

    OMP_NUM_THREADS=1 python benchmarks/bench_step.py

keeps the ratio of CPU times of the two loops in benchmarks/results/, with those of steps of bundled recipes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from medkit_benchmarks import recipe_steps, script
from torch import Tensor, nn

from medkit.bench import Case, Target, Variant
from medkit.bench.ratio import Ratio, save, take_turns
from medkit.engine.optimizers import Optimization
from medkit.engine.recompute import checkpoint_activations
from medkit.engine.runtime import Runtime
from medkit.engine.settings import TrainingSettings
from medkit.parts.encoders import TimmEncoder
from medkit.parts.optimizers import Adam
from medkit.parts.schedules import Constant
from medkit.protocols import Batch, Turn

AT_MOST = 1.05
NOTE = "Step: whole epochs in CPU time, the two checkpoints of each and its one set of numbers among them."
SIZES = ((16, 64, 300), (16, 64, 1500), (16, 128, 100), (32, 128, 100))  # width of the network, side of images, steps


class Net(nn.Module):
    """Three convolutions and a linear head, one binary loss: small, so that the engine's own time is visible."""

    unit = "slice"

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, width), (width, width), (width, width)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.encoder, self.head = nn.Sequential(*layers), nn.Linear(width, 1)

    def turns(self) -> list[Turn]:
        return [Turn("train", ("encoder", "head"))]

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "head": self.head}

    def losses(self, turn: str, batch: Batch) -> dict[str, Tensor]:
        logits = self.head(self.encoder(batch["image"]).mean((2, 3)))[:, 0]
        return {"bce": nn.functional.binary_cross_entropy_with_logits(logits, batch["label"])}


class Batches:
    """The same batches for both, already in memory."""

    def __init__(self, steps: int, size: int, device: torch.device) -> None:
        made = torch.Generator().manual_seed(0)
        self.steps = steps
        self.items = [
            {
                "image": torch.rand(8, 1, size, size, generator=made).to(device),
                "label": torch.randint(0, 2, (8,), generator=made).float().to(device),
                "ids": [str(i) for i in range(8)],
            }
            for _ in range(steps)
        ]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return iter(self.items[start:])


def bare(net: Net, batches: Batches, device: torch.device) -> None:
    """A hand-written loop: the loss is read once per step, as in any loop that shows it."""
    net.train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    total = 0.0
    for batch in batches.epoch(0):
        optimizer.zero_grad(set_to_none=True)
        loss = net.losses("train", batch)["bce"]
        loss.backward()
        optimizer.step()
        total += loss.item()


def engine(net: Net, batches: Batches, device: torch.device) -> None:
    settings = TrainingSettings("bench", 1, 0, {"train": Optimization(Adam(lr=1e-4), Constant())})
    recipe_steps.fit(net, batches, settings, Runtime(device))


def training(way: Callable[..., None], width: int, size: int, steps: int, device: torch.device) -> Callable[[], Any]:
    """Train a fresh network and return its weights."""
    batches = Batches(steps, size, device)

    def run() -> list[Tensor]:
        torch.manual_seed(0)
        net = Net(width).to(device)
        # Adam would amplify rounding to whole steps, so both loops have to add in the same order, on a GPU too.
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            way(net, batches, device)
        return list(net.parameters())

    return run


def encoder_step(checkpointing: bool, size: int, device: torch.device) -> Callable[[], list[Tensor]]:
    """Forward and backward of a ResNet-18 with a stride-1 stem, in training mode."""
    torch.manual_seed(0)
    net = TimmEncoder("resnet18", stem_stride=1).to(device).train()
    if checkpointing:
        checkpoint_activations(net)
    x = torch.rand(4, 1, size, size, generator=torch.Generator().manual_seed(1)).to(device)

    def run() -> list[Tensor]:
        features = net(x)
        loss = torch.stack([f.square().mean() for f in features]).sum()
        return [loss.detach(), *torch.autograd.grad(loss, list(net.parameters()))]

    return run


def loops(width: int, size: int, steps: int, targets: tuple[Target, ...] = ()) -> Case:
    return Case(
        f"{steps} steps of 8 images {size}x{size}, width {width}",
        (
            Variant("bare loop", partial(training, bare, width, size, steps)),
            Variant("engine", partial(training, engine, width, size, steps)),
        ),
        targets=targets,
        rounds=9,
        quick=size == 16,
    )


def encoders(size: int, memory: bool) -> Case:
    return Case(
        f"ResNet-18, 4 images {size}x{size}",
        (
            Variant("as it is", partial(encoder_step, False, size)),
            Variant("checkpointing", partial(encoder_step, True, size)),
        ),
        tolerance=1e-5,
        gpu_tolerance=1e-3,
        relative=True,
        memory=memory,
        quick=not memory,
    )


def cases() -> list[Case]:
    at_most = (Target("engine", "time", AT_MOST),)
    return [
        loops(4, 16, 20),
        loops(16, 64, 300, at_most),
        loops(16, 128, 100, at_most),
        encoders(32, memory=False),
        encoders(192, memory=True),
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_step(case, versus) -> None:
    versus(case)


def main() -> None:
    script.parser(__doc__).parse_args()
    torch.set_num_threads(1)
    device, found = torch.device("cpu"), []
    for width, side, steps in SIZES:
        ways = {name: training(way, width, side, steps, device) for name, way in (("engine", engine), ("bare", bare))}
        name = f"a training step of 8 images {side}x{side}, width {width}, {steps} steps an epoch"
        numbers = take_turns(ways, 15, clock="cpu")
        found.append(Ratio.of(name, numbers, "engine", "bare", at_most=AT_MOST, unit="s of CPU time", note=NOTE))
    found += [recipe_steps.ratio(name) for name in recipe_steps.RECIPES]
    save("step", found)


if __name__ == "__main__":
    main()
