"""Training steps of the three main recipes at the thesis's sizes, on phantoms, with a trace of how long the device waited.

It runs everything that a run does: source, preparation, augmentation, the loader that works ahead, the trainer. After a
few warm-up steps torch's profiler records some. Its trace gives the seconds of a step, the fraction in which the device
was idle, and whether the host was then waiting for a batch or working (``in a step``: launching kernels, reading losses,
the optimizer's bookkeeping).

    python benchmarks/training_trace.py [--device cuda] [--precision bf16] [--tiny] [--save FILE]
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from medkit_benchmarks import script
from torch.profiler import ProfilerActivity, profile, record_function

from medkit.bench.results import environment
from medkit.bench.results import replace as write
from medkit.bench.trace import DEVICE, Waits, waits
from medkit.engine.events import Events
from medkit.engine.runtime import Runtime
from medkit.engine.trainer import Trainer
from medkit.protocols import Batch
from medkit.recipe import load_recipe
from medkit.runs.built_in_trainer import BuiltInTrainer
from medkit.runs.workbench import Workbench

WAITING, STEP = "waiting for a batch", "in a step"
UNSET = ("MEDKIT_ICH_MANIFEST", "MEDKIT_LDCT_MANIFEST", "MEDKIT_RSNA_BONE_AGE", "MEDKIT_VGG19", "MEDKIT_FID_INCEPTION")


@dataclass(frozen=True)
class Training:
    """A stage of a recipe, with phantoms instead of the recipe's own data."""

    recipe: str
    stage: str
    set: tuple[str, ...]
    tiny: str  # a recipe of seconds with the same kind of stage
    warm_up: int = 4
    steps: int = 8


HEADS = '{use: "phantoms:head_ct", patients: 8, size: [256, 256], slices: 24}'
HANDS = '{use: "phantoms:radiographs", patients: 60, size: 512, task: bone_age, folds: [0.8, 0.1, 0.1]}'
TRAININGS = {
    "SMART-Net": Training("thesis/ich_seg", "pretext", (f"data.ich.source={HEADS}",), "tiny_ich_seg"),
    "MTD-GAN": Training(
        "thesis/ldct_mtdgan",
        "denoise",
        (f'data.ldct.source={{use: "mtdgan:low_dose", source: {HEADS}}}',),
        "tiny_ldct_mtdgan",
    ),
    "PedXnet": Training("thesis/pedxnet_boneage", "bone_age", (f"data.hands.source={HANDS}",), "tiny_pedxnet_boneage"),
}


class Watched:
    """A loader's first epochs as one, with its parts named for the profiler, which records the last ``steps``."""

    def __init__(self, loader: Any, training: Training, watch: profile) -> None:
        self.loader, self.device_augment = loader, loader.device_augment
        self.warm_up, self.watched, self.watch = training.warm_up, training.steps, watch
        self.steps = training.warm_up + training.steps
        self.seconds: list[float] = []

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        batches, watching = self._endless(), False
        try:
            for number in range(self.steps):
                if number == self.warm_up:
                    _finish()
                    self.watch.start()
                    watching = True
                begun = time.perf_counter()
                with record_function(WAITING):
                    batch = next(batches)
                with record_function(STEP):
                    yield batch
                    if number + 1 == self.steps:
                        _finish()
                self.seconds.append(time.perf_counter() - begun)
        finally:
            if watching:  # also where a step has failed: the next recipe's profiler could not start otherwise
                self.watch.stop()

    def _endless(self) -> Iterator[Batch]:
        for epoch in range(self.steps):
            yield from self.loader.epoch(epoch)


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def trained(training: Training, runtime: Runtime, folder: Path, tiny: bool) -> dict[str, Any]:
    """Seconds of a step, and how long the device waited, from a trace of some steps of ``training``."""
    made = load_recipe(training.tiny) if tiny else load_recipe(training.recipe, set=training.set)
    stage = next(stage for stage in made.stages if stage.name == (made.stages[0].name if tiny else training.stage))
    bench = Workbench(made, runtime)
    trainer = BuiltInTrainer(bench, stage, bench.objective(stage))
    bench.reads.draw(stage, trainer.objective)
    dataset = bench.dataset(stage)
    dataset.prepare_all(dataset.cases(stage.train))
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (runtime.device.type == "cuda")]
    watch = profile(activities=activities)
    loader = Watched(bench.loader(stage), replace(training, warm_up=1, steps=2) if tiny else training, watch)
    settings = replace(trainer.settings(), epochs=1, keep_best=None)
    Trainer(trainer.objective, loader, settings, runtime, folder, Events()).fit()
    path = folder / "trace.json"
    watch.export_chrome_trace(str(path))
    found = waits(path, (WAITING, STEP), DEVICE if runtime.device.type == "cuda" else ("cpu_op",))
    return described(found, loader, runtime)


def described(found: Waits, loader: Watched, runtime: Runtime) -> dict[str, Any]:
    """A row of the results; the seconds per step are of the recorded steps, including the profiler's own time."""
    peak = torch.cuda.max_memory_allocated(runtime.device) if runtime.device.type == "cuda" else None
    return {
        "steps": loader.watched,
        "seconds_a_step": found.seconds / loader.watched,
        "seconds_before_the_profiler": statistics.median(loader.seconds[: loader.warm_up]),
        "waited": found.fraction,
        "waited_in": {name: part / found.seconds for name, part in found.waited_in.items()},
        "peak_memory": peak,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16"))
    parser.add_argument("--only", choices=TRAININGS, help="one of the trainings")
    parser.add_argument("--tiny", action="store_true", help="recipes of seconds: tries the program, measures nothing")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the results as JSON, after every recipe")
    given = parser.parse_args(arguments)
    for name in UNSET:  # of the data that the phantoms replace
        os.environ.setdefault(name, "/nowhere")
    runtime = Runtime.start(device=given.device, precision=given.precision)
    about = environment(runtime.device, []) | {"precision": given.precision, "tiny": given.tiny}
    rows: list[dict[str, Any]] = []
    for name, training in TRAININGS.items():
        if given.only not in (None, name):
            continue
        row: dict[str, Any] = {"recipe": f"{name} ({training.tiny if given.tiny else training.recipe})"}
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):
            try:
                row |= {"status": "ok", "reason": "", **trained(training, runtime, Path(folder), given.tiny)}
            except Exception as error:  # the others are measured all the same
                row |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
        row["seconds_in_all"] = time.monotonic() - begun
        rows.append(row)
        print(json.dumps(row), flush=True)
        if given.save is not None:
            write(given.save, json.dumps({"medkit_trace": 1, "environment": about, "recipes": rows}, indent=1) + "\n")
    if any(row["status"] != "ok" for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
