"""Two ranks: gradients that travelled task by task against those of one message at the end, bit for bit."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import nn

from medkit.engine.gradients import backward, gram, project
from medkit.engine.runtime import Runtime

runtime = Runtime.start(device="cpu")
torch.manual_seed(0)
shared = nn.Sequential(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.ReLU(), nn.Conv2d(7, 300, 5), nn.AdaptiveAvgPool2d(1))
shared = shared.to(memory_format=torch.channels_last)
idle = nn.Linear(2, 2)
heads = nn.ModuleDict({name: nn.Linear(300, 1) for name in "abc"})
several, own = [*shared.parameters(), *idle.parameters()], list(heads.parameters())
x = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(runtime.rank))


def losses() -> dict[str, torch.Tensor]:
    h = shared(x).flatten(1)
    # The first task does not reach the bottom of the network on any rank, the second only on one.
    reaching = {"a": nn.functional.normalize(shared[3].weight.mean((1, 2, 3)), dim=0)[None], "b": h, "c": h}
    if runtime.rank == 1:
        reaching["b"] = h.detach() * shared[3].weight.mean()
    return {name: (head(reaching[name]) - i).square().mean() for i, (name, head) in enumerate(heads.items())}


def sent_at_the_end() -> list[torch.Tensor]:
    found = [
        torch.autograd.grad(loss, [*several, *own], retain_graph=True, allow_unused=True) for loss in losses().values()
    ]
    tasks = [[torch.zeros_like(p) if g is None else g for p, g in zip(several, task, strict=False)] for task in found]
    runtime.strategy.average([g for task in tasks for g in task])
    weights = project(gram(tasks), torch.Generator().manual_seed(3))
    merged = []
    for gradients in zip(*tasks, strict=True):
        total = torch.mul(gradients[0], weights[0])
        for weight, gradient in zip(weights[1:], gradients[1:], strict=True):
            total.add_(gradient, alpha=weight)
        merged.append(total)
    alone = [
        next(g for g in task if g is not None) for task in zip(*(task[len(several) :] for task in found), strict=True)
    ]
    runtime.strategy.average(alone)
    return [*merged, *alone]


expected = sent_at_the_end()
generator = torch.Generator().manual_seed(3)
backward(losses(), [*several, *own], runtime, shared=several, generator=generator)
for p, wanted in zip([*several, *own], expected, strict=True):
    if p.grad is not None:
        assert torch.equal(p.grad, wanted)
        assert p.grad.stride() == p.stride()
left = [p for p in several if p.grad is None]
assert [p.shape for p in left] == [p.shape for p in idle.parameters()], "only what no rank reached has no gradient"
(Path(sys.argv[1]) / f"agreed{runtime.rank}").touch()
runtime.strategy.barrier("the end")
os._exit(0)
