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
import torch.distributed.nn.functional  # noqa: F401  (imported later, its default arguments would keep a connection)

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
    begun_here = not dist.is_initialized()
    with told("while they met"):
        if begun_here:
            here = ranks.place()
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                init_method=ranks.rendezvous(here),
                rank=here.rank,
                world_size=here.world_size,
            )
        numbers = dist.new_group(backend="gloo") if device.type == "cuda" else None
        waiting = dist.new_group(backend="gloo", timeout=timedelta(seconds=2 * patience))
    _FOUND.append(Groups(numbers, waiting))
    atexit.register(_leave, begun_here)
    return _FOUND[-1]


def _leave(begun_here: bool) -> None:
    """End the connections while Python still runs; torch's default one only if it was begun here.

    Threads of gloo let go of a message's tensors some time after it has arrived. If Python has been taken down by
    then, the process aborts, however well it has done (pytorch#179291). Ending a connection waits for its threads,
    but only where the last reference goes: a program that has called ``destroy_process_group`` has not ended ours.
    """
    if hasattr(sys, "last_value"):
        return  # after a failure, a message under way may never be answered
    while _FOUND:
        _end(_FOUND.pop())
    if begun_here and dist.is_initialized():
        dist.destroy_process_group()
    gc.collect()  # of divided weights, torch keeps some


def _end(groups: Groups) -> None:
    """Strategies keep ``groups``, but none of what is in it."""
    ours = [group for group in (groups.numbers, groups.waiting) if group is not None]
    groups.numbers = groups.waiting = None
    if dist.is_initialized():
        for group in ours:
            dist.destroy_process_group(group)
