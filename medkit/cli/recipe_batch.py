"""How many items a batch of a written recipe has: what fits into a share of the machine's memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SHARE = 4
"""A quarter of the memory at most: the system, batches that are made ahead and pictures need some too."""
PER_PIXEL = {"segment": 1137, "denoise": 904}
"""Bytes that a pixel of an item leaves for the backward pass, as counted in the networks of written recipes."""
USUAL = 434
LARGEST = {"segment": 16, "denoise": 8}
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class BatchSize:
    """Items of a batch, and why."""

    items: int
    why: str


def batch_size(task: str, pixels: int, largest: int | None = None, memory: int | None = None) -> BatchSize:
    """The largest power of two of items of so many pixels that a quarter of the memory holds; gradients take as much
    again as what is kept for them.

    Parameters
    ----------
    largest:
        More are not taken, for fewer steps an epoch would remain; default: by the task.
    memory:
        Bytes; default: those of the machine, or what its control group may have: always the same on one machine.
    """
    memory = machine_memory() if memory is None else memory
    each = 2 * PER_PIXEL.get(task, USUAL) * pixels
    fit = max(1, memory // SHARE // each)
    items = min(2 ** (fit.bit_length() - 1), largest or LARGEST.get(task, 32))
    smaller = "halve it" if items > 1 else "take smaller images"
    why = f"about {_gib(items * each)} of {_gib(memory)} of memory; if it runs out, {smaller}"
    return BatchSize(items, why)


def machine_memory() -> int:
    """Bytes of memory that this machine has, or that processes here may take of it."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in LIMITS:
        text = path.read_text(encoding="ascii").strip() if path.is_file() else ""
        if text.isdecimal():
            found = min(found, int(text))
    return found


def _gib(size: int) -> str:
    return f"{size / 2**30:.2g} GiB" if size >= 2**30 / 10 else f"{max(1, round(size / 2**20))} MiB"
