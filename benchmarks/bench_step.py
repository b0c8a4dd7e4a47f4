"""The engine's training step against a bare hand-written torch loop on the same small conv net.

Both train the same network on the same batches in one process, in turn; the engine with everything it always does:
seeding, the check for losses that are not finite, sums for the log, progress, the checkpoint of an epoch's end.
Prints the median of the ratios, and whether both end with the very same weights.

    OMP_NUM_THREADS=1 python benchmarks/bench_step.py
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from medkit.engine.progress import Progress
from medkit.engine.runtime import Runtime
from medkit.engine.stage import train_stage
from medkit.parts.optimizers import Adam
from medkit.parts.schedules import Constant
from medkit.protocols import Batch, Turn

STEPS, ROUNDS = 300, 9


class Net(nn.Module):
    """Three convolutions and a linear head, one binary loss: small, so that the engine's share shows."""

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

    steps = STEPS

    def __init__(self, size: int) -> None:
        made = torch.Generator().manual_seed(0)
        self.items = [
            {
                "image": torch.rand(8, 1, size, size, generator=made),
                "label": torch.randint(0, 2, (8,), generator=made).float(),
                "ids": [str(i) for i in range(8)],
            }
            for _ in range(STEPS)
        ]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return iter(self.items[start:])


def bare(net: Net, batches: Batches) -> None:
    """What one writes by hand: the loss is read once a step, as any loop that shows it does."""
    net.train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    total = 0.0
    for batch in batches.epoch(0):
        optimizer.zero_grad(set_to_none=True)
        loss = net.losses("train", batch)["bce"]
        loss.backward()
        optimizer.step()
        total += loss.item()


def engine(net: Net, batches: Batches, folder: Path) -> None:
    train_stage(
        net,
        batches,
        name="bench",
        epochs=1,
        optimizers={"train": Adam(lr=1e-4)},
        schedules={"train": Constant()},
        seed=0,
        runtime=Runtime(torch.device("cpu")),
        folder=folder,
        progress=Progress(quiet=True),
    )


def compare(width: int, size: int) -> tuple[list[float], float, float, bool]:
    """Ratios of the rounds, median milliseconds a step of engine and bare loop, and whether the weights are equal."""
    batches = Batches(size)
    times: list[tuple[float, float]] = []
    same = True
    for index in range(ROUNDS + 1):
        torch.manual_seed(0)
        one = Net(width)
        other = Net(width)
        other.load_state_dict(one.state_dict())
        with tempfile.TemporaryDirectory() as folder:
            runs = {"bare": lambda one=one: bare(one, batches)}
            runs["engine"] = lambda other=other, folder=folder: engine(other, batches, Path(folder))
            seconds = {}
            # Who goes first changes every round: a busy machine then favours neither.
            for name in sorted(runs, reverse=index % 2 == 1):
                begun = time.perf_counter()
                runs[name]()
                seconds[name] = time.perf_counter() - begun
        same &= all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
        if index:  # the first round warms up
            times.append((seconds["engine"], seconds["bare"]))
    a, b = (1e3 / STEPS * statistics.median(column) for column in zip(*times, strict=True))
    return sorted(x / y for x, y in times), a, b, same


def main() -> None:
    torch.set_num_threads(1)
    for width, size in ((16, 64), (16, 128)):
        ratios, a, b, same = compare(width, size)
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        print(
            f"batch 8 of {size}x{size}, width {width}: {statistics.median(ratios):.3f} [{low:.3f}, {high:.3f}] of the "
            f"bare loop ({a:.2f} and {b:.2f} ms a step), weights {'equal' if same else 'DIFFER'}"
        )


if __name__ == "__main__":
    main()
