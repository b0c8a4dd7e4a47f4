"""PCGrad: projection on the Gram matrix against the published algorithm on lists, and the cost of a whole step.

The projection is that of three conflicting tasks over 28.6 million shared parameters in tensors of many sizes, against
Algorithm 1 of Yu et al. 2020 as published: a copy of each task's gradient, projected on the others in turn. Errors are
relative to float64. The step is that of MTD-GAN's discriminator (28.6 M shared parameters of 68.4 M) on patches of 64x64
with one squared error per head, including the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from medkit_mtdgan.discriminator import MultiTaskDiscriminator
from torch import Tensor

from medkit.bench import Case, Target, Variant
from medkit.engine.gradients import backward, gram, project
from medkit.engine.runtime import Runtime

Gradients = Sequence[Sequence[Tensor]]
ORDERS = [[1, 2, 0], [2, 0, 1], [0, 1, 2]]
SIZES = [64 * 9, 64, 64 * 64 * 9, 128 * 64 * 9, 256 * 128 * 9, 512 * 256 * 9, *[512 * 512 * 9] * 11, 1_050_000]


def published(gradients: Gradients) -> list[Tensor]:
    """Algorithm 1 on lists of tensors; inner products and norms over all tensors of a task together, as published."""
    joined = [torch.cat([tensor.reshape(-1) for tensor in task]) for task in gradients]
    total = torch.zeros_like(joined[0])
    for i, order in enumerate(ORDERS):
        mine = joined[i].clone()
        for j in order:
            if j != i:
                along = torch.dot(mine, joined[j])
                if along < 0:
                    mine -= along / torch.norm(joined[j]) ** 2 * joined[j]
        total += mine
    parts = total.split([tensor.numel() for tensor in gradients[0]])
    return [part.view_as(tensor) for part, tensor in zip(parts, gradients[0], strict=True)]


def on_gram(gradients: Gradients) -> list[Tensor]:
    """The engine's way: coefficients from the Gram matrix, then one combination."""
    weights = project(gram(gradients), orders=ORDERS)
    merged = []
    for tensors in zip(*gradients, strict=True):
        total = tensors[0] * weights[0]
        for weight, tensor in zip(weights[1:], tensors[1:], strict=True):
            total.add_(tensor, alpha=weight)
        merged.append(total)
    return merged


def conflicting(sizes: Sequence[int], device: torch.device) -> list[list[Tensor]]:
    """Three tasks' gradients, the second against the first and the third against the second."""
    made = torch.Generator().manual_seed(0)
    first, second, third = ([torch.randn(size, generator=made) for size in sizes] for _ in range(3))
    second = [b - 0.9 * a for a, b in zip(first, second, strict=True)]
    third = [c - 0.9 * b for b, c in zip(second, third, strict=True)]
    return [[tensor.to(device) for tensor in task] for task in (first, second, third)]


def projection(way: Callable[[Gradients], list[Tensor]], sizes: Sequence[int], device: torch.device) -> Callable:
    gradients = conflicting(sizes, device)
    return lambda: way(gradients)


def exact(sizes: Sequence[int], device: torch.device) -> Callable[[], list[Tensor]]:
    """Algorithm 1 in double precision."""
    gradients = conflicting(sizes, device)
    return lambda: published([[tensor.double() for tensor in task] for task in gradients])


def step(combine: str, stacked: bool, patches: int, device: torch.device) -> Callable[[], list[Tensor]]:
    """Forward and backward of three losses; returns the gradients of the parameters that only one task trains.

    These do not depend on how the shared gradients are combined.
    """
    torch.manual_seed(0)
    net, image = MultiTaskDiscriminator().to(device), torch.rand(patches, 1, 64, 64).to(device)
    with torch.no_grad():
        for _ in range(15):  # untrained spectral-norm vectors give gradients that are not finite
            net(image)
    net.eval()  # from here on they are fixed, so that every call computes the same
    parameters, shared = list(net.parameters()), list(net.shared_parameters())
    own = [p for p in parameters if all(p is not q for q in shared)]
    runtime = Runtime(device)
    generator = torch.Generator().manual_seed(0)

    def run() -> list[Tensor]:
        net.zero_grad(set_to_none=True)
        losses = {task: (score - 1).square().mean() for task, score in net(image).items()}
        if stacked:  # as the published loop does: every task's pass then walks all heads
            joined = torch.stack(list(losses.values()))
            losses = dict(zip(losses, joined.unbind(), strict=True))
        backward(losses, parameters, runtime, shared=shared if combine == "pcgrad" else None, generator=generator)
        return [p.grad for p in own if p.grad is not None]

    return run


def steps(patches: int, targets: tuple[Target, ...] = ()) -> Case:
    return Case(
        f"discriminator step, {patches} patches of 64x64",
        (
            Variant("plain sum", partial(step, "sum", False, patches)),
            Variant("PCGrad, one loss a head", partial(step, "pcgrad", False, patches)),
            Variant("PCGrad, stacked losses", partial(step, "pcgrad", True, patches)),
        ),
        tolerance=1e-5,
        gpu_tolerance=1e-3,
        relative=True,
        memory=True,
        targets=targets,
    )


def projections(label: str, sizes: Sequence[int], targets: tuple[Target, ...] = (), quick: bool = False) -> Case:
    return Case(
        f"projection, {label} parameters",
        (
            # Sums over 28 million products: the reference's own error says nothing about the other's.
            Variant("published", partial(projection, published, sizes), tolerance=0.1),
            Variant("Gram matrix", partial(projection, on_gram, sizes), tolerance=1e-4),
        ),
        truth=partial(exact, sizes),
        memory=not quick,
        group="projection, over parameters",
        size=sum(sizes),
        targets=targets,
        quick=quick,
    )


def cases() -> list[Case]:
    promised = (Target("Gram matrix", "speed", 4.0), Target("Gram matrix", "error", 1e-4))
    return [
        projections("0.04 M", SIZES[:3], quick=True),
        projections("1.6 M", SIZES[:6]),
        projections("28.6 M", SIZES, promised),
        steps(4, (Target("PCGrad, one loss a head", "time", 1.9),)),
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_pcgrad(case, versus) -> None:
    versus(case)
