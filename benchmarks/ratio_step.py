"""A training step of the engine over one of a bare hand-written loop: the same network, batches and weights at the end.

The engine seeds every step, checks that losses are finite, sums them for the log and tells listeners; its checkpoints and
what it does once an epoch are spread over the steps of the epoch. Seconds of CPU time, in turn in one process.

    OMP_NUM_THREADS=1 python benchmarks/ratio_step.py [--rounds 15]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from medkit_benchmarks.bench_step import bare, engine, training

from medkit.bench.ratio import RESULTS, Ratio, save, take_turns

AT_MOST = 1.05
SIZES = ((16, 64, 300), (16, 128, 100), (32, 128, 100))  # width of the network, side of the images, steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    device, found = torch.device("cpu"), []
    for width, side, steps in SIZES:
        ways = {name: training(way, width, side, steps, device) for name, way in (("engine", engine), ("bare", bare))}
        name = f"a training step of 8 images {side}x{side}, width {width} ({steps} steps an epoch)"
        numbers = take_turns(ways, given.rounds, clock="cpu")
        found.append(Ratio.of(name, numbers, "engine", "bare", at_most=AT_MOST, unit="s of CPU time"))
        print(found[-1], flush=True)
    save("step", found, given.results)


if __name__ == "__main__":
    main()
