"""The connections of a process to the other ranks: made when they meet, and given up when the process ends."""

from __future__ import annotations

import atexit
import gc
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from medkit.engine import ranks
from medkit.engine.messages import told


@dataclass
class Groups:
    """Connections beside torch's default one, on which gradients travel.

    Nothing else keeps them, or they could not be given up.
    """

    numbers: Any
    """For tensors on the CPU, which travel beside a GPU's work instead of after it; None means the default one."""
    waiting: Any
    """For barriers, on the CPU: waiting for a rank that evaluates is not a failed message, and has its own patience."""


_FOUND: list[Groups] = []


def join(device: torch.device, patience: float) -> Groups:
    """Meet the other ranks.

    Parameters
    ----------
    device:
        Where tensors of messages are kept.
    patience:
        Seconds that a rank waits at a barrier.

    Raises
    ------
    LostRank
        if one does not come.
    """
    with told("while they met"):
        if not dist.is_initialized():
            here = ranks.place()
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                init_method=ranks.rendezvous(here),
                rank=here.rank,
                world_size=here.world_size,
            )
            atexit.register(_leave)  # groups that somebody else has begun are theirs to end
        numbers = dist.new_group(backend="gloo") if device.type == "cuda" else None
        waiting = dist.new_group(backend="gloo", timeout=timedelta(seconds=2 * patience))
    _FOUND.append(Groups(numbers, waiting))
    return _FOUND[-1]


def _leave() -> None:
    """End the connections while Python still runs.

    Threads of gloo let go of a message's tensors some time after it has arrived. If Python has been taken down by
    then, the process aborts, however well it has done (pytorch#179291). Ending a connection waits for its threads.
    """
    if hasattr(sys, "last_value") or not dist.is_initialized():
        return  # after a failure, a message under way may never be answered
    for groups in _FOUND:
        groups.numbers = groups.waiting = None
    dist.destroy_process_group()
    gc.collect()  # threads are waited for where the last reference goes; of divided weights, torch keeps some
