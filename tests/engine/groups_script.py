"""Two ranks talk and end; each writes which threads of gloo Python leaves behind.

The first argument says who begins torch's default group and who ends it: ``medkit``, ``ended`` (medkit begins it, the
program ends it) or ``begun`` (the program does both).
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from medkit.engine import ranks
from medkit.engine.runtime import Runtime
from medkit.parts.optimizers import AdamW

mode, folder = sys.argv[1], Path(sys.argv[2])


def threads() -> list[str]:
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


before: list[str] = []
# The handler that was registered first is called last.
atexit.register(lambda: (folder / f"told{os.environ['RANK']}").write_text(repr((len(before), threads()))))


def work() -> None:
    Runtime.start(device="cpu")  # as every command does: once for plugins, once for the run
    strategy = Runtime.start(device="cpu").strategy
    strategy.average_async([torch.ones(8)]).wait()
    strategy.share("best", "best epoch")
    AdamW(lr=1e-3).build([torch.ones(8, requires_grad=True)])  # torch loads more of itself
    before.extend(threads())


if mode == "begun":
    here = ranks.place()
    dist.init_process_group("gloo", ranks.rendezvous(here), rank=here.rank, world_size=here.world_size)
work()
if mode != "medkit":
    dist.barrier()
    dist.destroy_process_group()
