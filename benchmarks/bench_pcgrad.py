"""PCGrad: projection on the Gram matrix against the published algorithm on lists, and the cost of a whole step.

1. Projection only, three tasks with conflicts, 28.6 million shared parameters in tensors of many sizes: against
   Algorithm 1 of Yu et al. 2020 as it is written (a copy of each task's gradient, projected on the others in turn).
   Prints the largest error of both from float64.
2. A whole step, forward included, of MTD-GAN's discriminator (28.6 M shared parameters of 68.4 M) on 4 patches of
   64x64 with one squared error a head: against one backward of the summed losses.

Both sides in one process, in turn; medians of the ratios.

    OMP_NUM_THREADS=1 python benchmarks/bench_pcgrad.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from medkit_mtdgan.discriminator import MultiTaskDiscriminator
from torch import Tensor

from medkit.engine.gradients import backward, gram, project
from medkit.engine.runtime import Runtime

Gradients = Sequence[Sequence[Tensor]]


def published(gradients: Gradients, orders: Sequence[Sequence[int]]) -> list[Tensor]:
    """Algorithm 1 on lists of tensors; inner products and norms over all tensors of a task joined, as published."""
    joined = [torch.cat([tensor.reshape(-1) for tensor in task]) for task in gradients]
    total = torch.zeros_like(joined[0])
    for i, order in enumerate(orders):
        mine = joined[i].clone()
        for j in order:
            if j != i:
                along = torch.dot(mine, joined[j])
                if along < 0:
                    mine -= along / torch.norm(joined[j]) ** 2 * joined[j]
        total += mine
    parts = total.split([tensor.numel() for tensor in gradients[0]])
    return [part.view_as(tensor) for part, tensor in zip(parts, gradients[0], strict=True)]


def on_gram(gradients: Gradients, orders: Sequence[Sequence[int]]) -> list[Tensor]:
    """The engine's way: coefficients from the Gram matrix, then one combination."""
    weights = project(gram(gradients), orders=orders)
    merged = []
    for tensors in zip(*gradients, strict=True):
        total = tensors[0] * weights[0]
        for weight, tensor in zip(weights[1:], tensors[1:], strict=True):
            total.add_(tensor, alpha=weight)
        merged.append(total)
    return merged


def conflicting(sizes: Sequence[int]) -> list[list[Tensor]]:
    made = torch.Generator().manual_seed(0)
    first, second, third = ([torch.randn(size, generator=made) for size in sizes] for _ in range(3))
    second = [b - 0.9 * a for a, b in zip(first, second, strict=True)]
    return [first, second, [c - 0.9 * b for b, c in zip(second, third, strict=True)]]


def ratios(one: Callable[[], object], other: Callable[[], object], rounds: int) -> list[float]:
    """Seconds of ``one`` over those of ``other``, sorted; who goes first changes every round."""
    one(), other()
    found = []
    for index in range(rounds):
        seconds = {}
        for function in (one, other) if index % 2 else (other, one):
            begun = time.perf_counter()
            function()
            seconds[function] = time.perf_counter() - begun
        found.append(seconds[one] / seconds[other])
    return sorted(found)


def told(found: list[float]) -> str:
    return f"{statistics.median(found):.2f} [{found[len(found) // 4]:.2f}, {found[-1 - len(found) // 4]:.2f}]"


def main() -> None:
    torch.set_num_threads(1)
    sizes = [64 * 9, 64, 64 * 64 * 9, 128 * 64 * 9, 256 * 128 * 9, 512 * 256 * 9, *[512 * 512 * 9] * 11, 1_050_000]
    gradients, orders = conflicting(sizes), [[1, 2, 0], [2, 0, 1], [0, 1, 2]]
    exact = published([[tensor.double() for tensor in task] for task in gradients], orders)
    scale = max(float(tensor.abs().max()) for tensor in exact)
    errors = {
        name: max(
            float((tensor.double() - truth).abs().max())
            for tensor, truth in zip(function(gradients, orders), exact, strict=True)
        )
        for name, function in (("published", published), ("gram", on_gram))
    }
    del exact
    found = ratios(lambda: published(gradients, orders), lambda: on_gram(gradients, orders), 9)
    print(
        f"projection, {sum(sizes) / 1e6:.1f} M parameters: {told(found)} times faster; largest error from float64 "
        f"{errors['gram']:.1e}, of the published {errors['published']:.1e} (scale {scale:.1f})"
    )

    runtime = Runtime(torch.device("cpu"))
    torch.manual_seed(0)
    net, image = MultiTaskDiscriminator(), torch.rand(4, 1, 64, 64)
    with torch.no_grad():
        for _ in range(15):  # untrained spectral-norm vectors give gradients that are not finite
            net(image)
    parameters, shared = list(net.parameters()), list(net.shared_parameters())
    generator = torch.Generator().manual_seed(0)

    def step(combine: str) -> None:
        net.zero_grad(set_to_none=True)
        losses = {task: (score - 1).square().mean() for task, score in net(image).items()}
        backward(losses, parameters, runtime, combine=combine, shared=shared, generator=generator)

    found = ratios(lambda: step("pcgrad"), lambda: step("sum"), 9)
    print(f"step with three losses, one a head: {told(found)} of one backward of their sum")


if __name__ == "__main__":
    main()
