"""Two ranks ask their strategy for something; each writes what it got, or which error."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch

from medkit.engine.ranks import agreed
from medkit.engine.runtime import Runtime
from medkit.errors import RunError

mode, folder = sys.argv[1], Path(sys.argv[2])
os.environ["MEDKIT_TIMEOUT"] = "2"
strategy = Runtime.start(device="cpu").strategy
told = "nothing"
try:
    if mode == "late":
        agreed(strategy, lambda: time.sleep(4 * strategy.rank), "validation of stage first")
    if mode == "gone" and strategy.rank == 1:
        os._exit(0)
    if mode == "gone":
        strategy.barrier("validation of stage first")
    if mode == "hear":
        parts = [torch.arange(3.0) + strategy.rank, torch.full((2, 2), 5.0 * strategy.rank)]
        means = strategy.average_async(parts).wait()
        told = repr(
            [
                strategy.gather({"rank": strategy.rank}, "rows"),
                strategy.share(f"from {strategy.rank}", "best epoch"),
                strategy.sum([0.1, strategy.rank]),
                strategy.any_true([strategy.rank == 1, False]),
                strategy.all_true(strategy.rank == 1),
                [mean.tolist() for mean in means],
                [part.tolist() for part in parts],
            ]
        )
except RunError as error:
    told = str(error)
(folder / f"told{strategy.rank}").write_text(told)
if mode == "late":
    time.sleep(3)  # so that the late one finds the other still there
os._exit(0)
