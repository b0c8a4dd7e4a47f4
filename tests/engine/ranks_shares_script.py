"""Ranks that project task gradients, each those of its share, against all gradients in double precision."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import torch
from torch import nn

from medkit.engine.gradients import backward, gram, project
from medkit.engine.runtime import Runtime

TASKS = 3
runtime = Runtime.start(device="cpu")
torch.manual_seed(0)
# The first tensor is nearly all: it goes to the middle rank, the others to the last.
shared = nn.Sequential(nn.Linear(600, 600), nn.Tanh(), nn.Linear(600, 4, bias=False))
heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(TASKS))
several = list(shared.parameters())
x = torch.randn(5, 600, generator=torch.Generator().manual_seed(runtime.rank))
owners = runtime.strategy.shares(several).owners
assert sorted(set(owners)) != list(range(runtime.world_size)), "one rank is to have no share"


def losses() -> dict[str, torch.Tensor]:
    h = shared(x)
    return {str(i): (head(h) - 3 * (-1) ** i).square().mean() for i, head in enumerate(heads)}


tasks = [[g.double() for g in torch.autograd.grad(loss, several, retain_graph=True)] for loss in losses().values()]
tasks = [[runtime.strategy.total(g) / runtime.world_size for g in task] for task in tasks]
weights = project(gram(tasks), torch.Generator().manual_seed(5))
assert any(weight != 1 for weight in weights), "the tasks are to conflict"
backward(
    losses(),
    [*several, *heads.parameters()],
    runtime,
    shared=several,
    generator=torch.Generator().manual_seed(5),
)
seen = hashlib.sha256()
for p, *gradients in zip(several, *tasks, strict=True):
    wanted = sum(weight * gradient for weight, gradient in zip(weights, gradients, strict=True))
    torch.testing.assert_close(p.grad.double(), wanted, rtol=1e-4, atol=1e-6)
    seen.update(p.grad.numpy().tobytes())
(Path(sys.argv[1]) / f"found{runtime.rank}").write_text(seen.hexdigest())
runtime.strategy.barrier("the end")
os._exit(0)
