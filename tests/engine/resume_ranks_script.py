"""Two ranks run a recipe, stop both in one step of another run of it, resume that, and compare."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.optim.optimizer import register_optimizer_step_post_hook

from medkit.engine.checkpoint import read_tensors
from medkit.runs import built_in_trainer
from medkit.runs.run import RunSettings, resume, run

recipe, folder, stops = sys.argv[1], Path(sys.argv[3]), [int(text) for text in sys.argv[2].split(",")]
os.environ["MEDKIT_CACHE"] = str(folder / "cache")
built_in_trainer.CHECKPOINT_SECONDS = 0.0
OPTIONS = RunSettings(device="cpu", quiet=True)
SET = ["stages.pretext.slices=4", "report.splits=[internal]"] if recipe == "tiny_ich_cls" else []


class Stopped(BaseException):
    """The power went."""


taken, limit = 0, 0


def count(*_: Any) -> None:
    global taken
    taken += 1
    if taken == limit:
        raise Stopped


register_optimizer_step_post_hook(count)
straight, broken = folder / "straight", folder / "broken"
run(recipe, straight, set=SET, settings=OPTIONS)
for attempt, stop in enumerate(stops):
    taken, limit = 0, stop
    try:
        if attempt:
            resume(broken, OPTIONS)
        else:
            run(recipe, broken, set=SET, settings=OPTIONS)
    except Stopped:
        dist.barrier()
        continue
    raise AssertionError(f"only {taken} steps were taken")
limit = 0
resume(broken, OPTIONS)
if dist.get_rank() == 0:
    for name in sorted(path.name for path in (straight / "weights").iterdir()):
        found, wanted = (read_tensors(run / "weights" / name)[0] for run in (broken, straight))
        different = [key for key in wanted if not torch.equal(found[key], wanted[key])]
        assert not different, f"{name}: {different[:3]}"
    results = [json.loads((run / "results.json").read_text()) for run in (straight, broken)]
    assert results[0] == results[1]
    (folder / "equal").touch()
dist.barrier()
dist.destroy_process_group()
