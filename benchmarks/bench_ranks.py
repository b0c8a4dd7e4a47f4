"""What two ranks on the CPU (gloo) gain from sending gradients earlier, measured in one launch of both.

``python benchmarks/bench_ranks.py`` starts two ranks of itself, which run both ways in turn; rank 0 writes
``benchmarks/results/ratio-ranks.json``. The gradients of both ways must be equal to the last bit.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import torch
from medkit_benchmarks import script
from torch import Tensor, nn

from medkit.bench.ratio import Ratio, save, take_turns
from medkit.engine.agreement import Votes
from medkit.engine.clock import CheckpointClock
from medkit.engine.gradients import PIECE, backward, project
from medkit.engine.optimizers import Optimization
from medkit.engine.runtime import Runtime
from medkit.engine.settings import TrainingSettings
from medkit.engine.step import Place, Step
from medkit.parts.optimizers import Adam
from medkit.parts.schedules import Constant
from medkit.protocols import Batch, Turn

TASKS = ("a", "b", "c")
WIDTHS = (64, 128, 256, 512, 512, 512, 512)


class ThreeTasks(nn.Module):
    """A convolutional encoder of 10 million parameters with three linear heads."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(zip((1, *WIDTHS), WIDTHS, strict=False)):
            layers += [
                nn.Conv2d(before, after, 3, stride=2 if i < 4 else 1, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.encoder = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({name: nn.Linear(WIDTHS[-1], 1) for name in TASKS})

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        features = self.encoder(x).mean((2, 3))
        return {name: (head(features) - i).square().mean() for i, (name, head) in enumerate(self.heads.items())}


def flat(net: ThreeTasks, x: Tensor, runtime: Runtime) -> None:
    """PCGrad as in release 0.1: one message, after the last task's backward pass."""
    losses = list(net.losses(x).values())
    shared, own = list(net.encoder.parameters()), list(net.heads.parameters())
    tasks = []
    for loss in losses:
        found = torch.autograd.grad(loss, [*shared, *own], retain_graph=loss is not losses[-1], allow_unused=True)
        tasks.append(list(found[: len(shared)]))
        for p, g in zip(own, found[len(shared) :], strict=True):
            if g is not None:
                p.grad = g.clone() if p.grad is None else p.grad.add_(g)
    runtime.strategy.any_true([True] * len(shared))
    runtime.strategy.any_true([True] * len(own))
    runtime.strategy.average([*(g for task in tasks for g in task), *(p.grad for p in own if p.grad is not None)])
    weights = project(pair_by_pair(tasks), torch.Generator().manual_seed(0))
    for p, *gradients in zip(shared, *tasks, strict=True):
        total = gradients[0] * weights[0]
        for weight, gradient in zip(weights[1:], gradients[1:], strict=True):
            total.add_(gradient, alpha=weight)
        p.grad = total


def pair_by_pair(tasks: list[list[Tensor]]) -> Tensor:
    """Inner products of all pairs of tasks, pair by pair over the whole network."""
    products = torch.zeros(len(tasks), len(tasks), dtype=torch.float64)
    for i, j in combinations_with_replacement(range(len(tasks)), 2):
        dots = [
            torch.dot(p, q)
            for a, b in zip(tasks[i], tasks[j], strict=True)
            for p, q in zip(a.reshape(-1).split(PIECE), b.reshape(-1).split(PIECE), strict=True)
        ]
        products[i, j] = products[j, i] = torch.stack(dots).double().sum().item()
    return products


def by_task(net: ThreeTasks, x: Tensor, runtime: Runtime) -> None:
    """PCGrad as in the engine: a message per task, while the next task's backward pass runs."""
    generator, shared = torch.Generator().manual_seed(0), list(net.encoder.parameters())
    parameters = [*shared, *net.heads.parameters()]
    backward(net.losses(x), parameters, runtime, shared=shared, generator=generator)


def gradients(way: Callable[..., None], net: ThreeTasks, x: Tensor, runtime: Runtime) -> list[Tensor]:
    net.zero_grad(set_to_none=True)
    way(net, x, runtime)
    return [p.grad for p in net.parameters() if p.grad is not None]


def one_message(net: ThreeTasks, x: Tensor, runtime: Runtime, optimizer: torch.optim.Optimizer) -> None:
    """A hand-written step: the ranks agree that losses are finite and which parameters they reach, then average in one message."""
    optimizer.zero_grad(set_to_none=True)
    losses = torch.stack(list(net.losses(x).values()))
    if not runtime.strategy.all_true(all(math.isfinite(value) for value in losses.tolist())):
        raise SystemExit("a loss is not finite")
    losses.sum().backward()
    trained = list(net.parameters())
    runtime.strategy.any_true([p.grad is not None for p in trained])
    runtime.strategy.average([p.grad for p in trained if p.grad is not None])
    optimizer.step()


class Objective(ThreeTasks):
    """The same step by the engine."""

    def turns(self) -> list[Turn]:
        return [Turn("train", ("encoder", "heads"))]

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "heads": self.heads}

    def losses(self, turn: Any, batch: Any = None) -> dict[str, Tensor]:
        return super().losses(turn if batch is None else batch["image"])


def steps(x: Tensor, runtime: Runtime) -> dict[str, Callable[[], object]]:
    """A step of the engine and a hand-written one, on separate networks."""
    net = Objective()
    settings = TrainingSettings("bench", 1, 0, {"train": Optimization(Adam(lr=1e-4), Constant())})
    step, votes = Step(net, net.turns()[0], settings, runtime), Votes(runtime, CheckpointClock(3600))
    other = ThreeTasks()
    optimizer = torch.optim.Adam(other.parameters(), lr=1e-4, fused=True)
    batch: Batch = {"image": x, "ids": list("abcd")}

    def engine() -> None:
        runtime.strategy.barrier("the next way")
        votes.open()
        step.take([batch], Place(0, 0), votes)

    def by_hand() -> None:
        runtime.strategy.barrier("the next way")
        one_message(other, x, runtime, optimizer)

    return {"engine": engine, "by hand": by_hand}


def measure(rounds: int) -> None:
    """The program of each rank."""
    torch.set_num_threads(1)
    runtime = Runtime.start(device="cpu")
    torch.manual_seed(0)
    net = ThreeTasks()
    x = torch.randn(4, 1, 64, 64, generator=torch.Generator().manual_seed(runtime.rank))
    one, other = (gradients(way, net, x, runtime) for way in (flat, by_task))
    if len(one) != len(other) or not all(torch.equal(a, b) for a, b in zip(one, other, strict=True)):
        raise SystemExit("the gradients of the two ways differ")

    def together(way: Callable[..., None]) -> Callable[[], object]:
        def run() -> None:
            runtime.strategy.barrier("the next way")
            gradients(way, net, x, runtime)

        return run

    times = take_turns({"one message": together(flat), "a message a task": together(by_task)}, rounds=rounds)
    whole = take_turns(steps(x, runtime), rounds=rounds)
    if runtime.is_main:
        note = "Two gloo ranks of one thread, three tasks, an encoder of 10 million parameters; gradients equal to the bit."
        found = [
            Ratio.of("PCGrad on two ranks", times, "one message", "a message a task", at_least=1.25, note=note),
            Ratio.of("a training step on two ranks", whole, "engine", "by hand", at_most=1.05),
        ]
        save("ranks", found)
    runtime.strategy.barrier("the end")


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument(
        "rounds", nargs="?", type=int, default=9, help="rounds in which both ways alternate (%(default)s)"
    )
    rounds = parser.parse_args().rounds
    if "RANK" in os.environ:
        return measure(rounds)
    words = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        __file__,
        str(rounds),
    ]
    sys.exit(subprocess.run(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False, cwd=Path.cwd()).returncode)


if __name__ == "__main__":
    main()
