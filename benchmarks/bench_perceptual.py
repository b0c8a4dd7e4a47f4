"""PL and TML of 512x512 slices by a full VGG19 (random weights), with separate passes against shared ones.

``apart``: each metric separately, output and input each with the target, like the published evaluation (which also
builds the network anew for each image; not counted here). ``shared``: one pass of three slices for both metrics.
``later``: shared, with the input's own distances known from an earlier epoch. They take turns in one process; seconds of
CPU time, medians of the ratios to ``apart``.

    OMP_NUM_THREADS=1 python benchmarks/bench_perceptual.py
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from torch import Tensor, nn

from medkit.parts.features import VGG19
from medkit.parts.metrics_perceptual import WEIGHTS, Distances, grams

Slices = tuple[np.ndarray, np.ndarray, np.ndarray]


def fresh(rng: np.random.Generator, size: int) -> Slices:
    """Output, target and input that no cache has seen."""
    output, target, image = rng.random((3, size, size), dtype=np.float32)
    return output, target, image


@torch.inference_mode()
def apart(net: nn.Module, slices: Slices) -> None:
    output, target, image = (torch.from_numpy(x)[None, None] for x in slices)
    for term in (Tensor.contiguous, grams):
        for shown in (output, image):
            levels = zip(WEIGHTS, net(shown), net(target), strict=True)
            float(sum(weight * (term(a) - term(b)).abs().mean() for weight, a, b in levels))


def shared(distances: Distances, slices: Slices) -> None:
    output, target, image = slices
    for _ in ("pl", "tml"):
        distances([(output, target), (image, target)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = VGG19().eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rng = np.random.default_rng(0)
    times: list[tuple[float, float, float]] = []
    for turn in range(arguments.rounds + 1):
        distances = Distances(net)
        slices = fresh(rng, arguments.size)
        later = (fresh(rng, arguments.size)[0], *slices[1:])
        t = [time.process_time()]
        apart(net, slices)
        t.append(time.process_time())
        shared(distances, slices)
        t.append(time.process_time())
        shared(distances, later)
        t.append(time.process_time())
        if turn:
            times.append((t[1] - t[0], t[2] - t[1], t[3] - t[2]))
    names = ("apart", "shared", "later")
    for i, name in enumerate(names):
        seconds = statistics.median(found[i] for found in times)
        print(
            f"{name}: {seconds:.2f} s of CPU per slice, {statistics.median(found[0] / found[i] for found in times):.2f}x"
        )


if __name__ == "__main__":
    main()
