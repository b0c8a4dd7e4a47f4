"""Evaluation on two ranks against one rank alone, in turn and in one launch: ``benchmarks/results/ratio-evaluation.json``.

A segmenter of slices (ResNet-18, U-Net decoder) on phantoms of 8 x 128 x 128, every rank with one thread. A validation
has no intervals and no pictures; a test has both.

python benchmarks/bench_evaluation_ranks.py [--patients 25] [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from medkit_benchmarks import script

from medkit.bench.ratio import Ratio, save, take_turns
from medkit.engine.runtime import Runtime
from medkit.evaluation.evaluate import Request, evaluate
from medkit.recipe import Recipe
from medkit.recipe.load import recipe_from
from medkit.runs.workbench import Workbench

RANKS = 2


def recipe(patients: int) -> Recipe:
    source = {
        "use": "phantoms:head_ct",
        "patients": patients,
        "size": [128, 128],
        "slices": 8,
        "folds": [0.1, 0.1, 0.8],
    }
    encoder = {"use": "timm", "model": "resnet18", "in_channels": 1}
    heads = {"cls": {"use": "smartnet:slice_class"}, "seg": {"use": "smartnet:scse_unet"}}
    stage = {
        "name": "s",
        "objective": {"use": "multitask", "encoder": encoder, "heads": heads},
        "metrics": ["auc", "dice", "fpv", {"use": "concurrence", "on": "positives"}],
    }
    splits = {"train": {"fold": "train"}, "val": {"fold": "val"}, "test": {"fold": "test"}}
    data = {"source": source, "splits": splits, "prepare": [{"use": "window", "low": 0, "high": 80}]}
    return recipe_from({"medkit": 1, "name": "bench", "data": {"d": data}, "stages": [stage], "report": {}})


class Clock:
    """Seconds from the start of all ranks to the end of the last, and the CPU seconds of the busiest rank."""

    def __init__(self, runtime: Runtime) -> None:
        self.strategy = runtime.strategy
        self.cpu: dict[str, list[float]] = {}

    def timed(self, way: str, work: Callable[[], Any]) -> float:
        self.strategy.barrier("the start")
        start, cpu = time.perf_counter(), time.process_time()
        work()
        mine = time.process_time() - cpu
        self.strategy.barrier("the end")
        wall = time.perf_counter() - start
        self.cpu.setdefault(way, []).append(max(self.strategy.gather(mine, "CPU seconds"), default=0.0))
        return wall


def on_a_rank(arguments: argparse.Namespace) -> None:
    together = Runtime.start(device="cpu")
    alone = Runtime(torch.device("cpu"))
    torch.set_num_threads(1)
    bench = Workbench(recipe(arguments.patients), together)
    stage = bench.recipe.stages[0]
    dataset, objective = bench.dataset(stage), bench.objective(stage)
    cases = dataset.cases("test")
    if together.is_main:
        dataset.prepare_all(cases)
    together.strategy.barrier("the preparation")
    look = Request(dataset, cases, bench.metrics(stage), "s", "test", stage.unit, intervals=False)
    found = []
    for name, request in (("a look", look), ("a test", replace(look, intervals=True, examples=4))):

        def by_one(request: Request = request) -> None:
            if together.is_main:
                evaluate(objective, request, alone)

        works = {"one rank": by_one, "two ranks": partial(evaluate, objective, request, together)}
        clock = Clock(together)
        wall = take_turns(
            {way: partial(clock.timed, way, work) for way, work in works.items()}, arguments.rounds, "own"
        )
        cpu = {way: seconds[1:] for way, seconds in clock.cpu.items()}  # without the warm-up
        load = f"{os.getloadavg()[0]:.0f} processes ran on {os.cpu_count()} cores"
        note = f"{len(cases)} volumes of 8x128x128, a thread a rank; CPU seconds are the busiest rank's; {load}."
        for what, times in (("CPU", cpu), ("wall", wall)) if together.is_main else ():
            title = f"evaluation, {name}: {what}"
            found.append(Ratio.of(title, times, "one rank", "two ranks", at_least=1.7, note=note))
    if together.is_main:
        save("evaluation", found)


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--patients", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if "WORLD_SIZE" in os.environ:
        on_a_rank(arguments)
        return
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    sys.exit(subprocess.run([*launcher, *sys.argv], env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
