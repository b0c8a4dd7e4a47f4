"""Evaluation on two ranks against one rank alone, in turn and in one launch: ``benchmarks/results/ratio-evaluation.json``.

A segmenter of slices (ResNet-18, U-Net decoder) on phantoms of 8 x 128 x 128, every rank with one thread. A look after
an epoch has no intervals and no pictures; a test has both, which the main rank makes for all.

python benchmarks/bench_evaluation_ranks.py [--patients 31] [--rounds 7]
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


def timed(runtime: Runtime, work: Callable[[], Any]) -> float:
    """Seconds from when all ranks begin to when all have ended."""
    runtime.barrier("the start")
    start = time.perf_counter()
    work()
    runtime.barrier("the end")
    return time.perf_counter() - start


def on_a_rank(arguments: argparse.Namespace) -> None:
    together = Runtime.start(device="cpu")
    alone = Runtime(torch.device("cpu"))
    torch.set_num_threads(1)
    bench = Workbench(recipe(arguments.patients), together)
    stage = bench.recipe.stages[0]
    dataset, objective = bench.dataset(stage), bench.objective(stage)
    cases = dataset.cases("test")
    dataset.prepare_all(cases)
    look = Request(dataset, cases, bench.metrics(stage), "s", "test", stage.unit, intervals=False)
    found = []
    for name, request in (("a look", look), ("a test", replace(look, intervals=True, examples=4))):

        def by_one(request: Request = request) -> None:
            if together.is_main:
                evaluate(objective, request, alone)

        ways = {"one rank": by_one, "two ranks": partial(evaluate, objective, request, together)}
        times = take_turns({way: partial(timed, together, work) for way, work in ways.items()}, arguments.rounds, "own")
        note = f"{len(cases)} volumes of 8x128x128, a thread a rank, all on one machine."
        found.append(Ratio.of(f"evaluation: {name}", times, "one rank", "two ranks", at_least=1.7, note=note))
    if together.is_main:
        save("evaluation", found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=31)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    if "WORLD_SIZE" in os.environ:
        on_a_rank(arguments)
        return
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    sys.exit(subprocess.run([*launcher, *sys.argv], env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
