"""Two ranks with different batches: the gradients they agree on against those of both batches in one process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from medkit.engine.agreement import FailedTogether
from medkit.engine.gradients import backward
from medkit.engine.runtime import Runtime
from medkit.errors import ElsewhereError

runtime = Runtime.start(device="cpu")
torch.manual_seed(0)
shared, a, b, idle = nn.Linear(6, 5), nn.Linear(5, 1), nn.Linear(5, 1), nn.Linear(2, 2)
parameters = [p for part in (shared, a, b, idle) for p in part.parameters()]
inputs = [torch.randn(4, 6, generator=torch.Generator().manual_seed(rank)) for rank in range(2)]


def losses(x: torch.Tensor) -> dict[str, torch.Tensor]:
    h = torch.tanh(shared(x))
    return {"a": (a(h) - 3).square().mean(), "b": (a(h) + 2).square().mean() + b(h).square().mean()}


def reference() -> list[torch.Tensor]:
    """Each task's gradient averaged over both batches, then projected; two tasks leave no choice of order."""
    tasks = []
    for name in ("a", "b"):
        mean = sum(losses(x)[name] for x in inputs) / 2
        tasks.append(torch.autograd.grad(mean, list(shared.parameters())))
    one, other = (torch.cat([g.reshape(-1) for g in task]).double() for task in tasks)
    along = one @ other
    assert along < 0, "the tasks have to be in conflict"
    merged = one - along / (other @ other) * other + other - along / (one @ one) * one
    sizes = [p.numel() for p in shared.parameters()]
    return [part.view_as(p).float() for part, p in zip(merged.split(sizes), shared.parameters(), strict=True)]


expected = reference()
backward(losses(inputs[runtime.rank]), parameters, runtime, shared=list(shared.parameters()))
for found, wanted in zip(shared.parameters(), expected, strict=True):
    torch.testing.assert_close(found.grad, wanted)
assert all(p.grad is None for p in idle.parameters()), "what no rank reached has no gradient"

for p in parameters:
    p.grad = None
# Only rank 1 reaches b: rank 0 has to take part in the average all the same.
one = {"a": a(torch.tanh(shared(inputs[0]))).sum()}
if runtime.rank == 1:
    one["a"] = one["a"] + b(torch.tanh(shared(inputs[0]))).sum()
backward(one, parameters, runtime)
torch.testing.assert_close(b.bias.grad, torch.full((1,), 2.0))
assert all(p.grad is None for p in idle.parameters())


class Fails(torch.autograd.Function):
    """A backward pass whose memory runs out."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        raise MemoryError("too little")


for how in ({"shared": list(shared.parameters())}, {}):
    found = losses(inputs[runtime.rank])
    if runtime.rank == 1:  # in the second task, when the first one's gradients are on their way
        found["b"] = Fails.apply(found["b"])
    try:
        backward(found, parameters, runtime, **how)
    except FailedTogether as error:
        told = type(error.__cause__)
    assert told is (MemoryError if runtime.rank == 1 else ElsewhereError), told
    number = torch.tensor([float(runtime.rank)])
    runtime.strategy.average([number])
    assert number == 0.5, "no message of the step that failed is left"
(Path(sys.argv[1]) / f"agreed{runtime.rank}").touch()
dist.barrier()
dist.destroy_process_group()
