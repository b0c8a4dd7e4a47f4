"""Memory of this process: give back what is free, reset the peak, read it, say where there is too little."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from medkit.errors import RunError
from medkit.recipe.values import SEPARATOR

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def start_over() -> bool:
    """Give freed memory back to the system and reset the peak; False where peaks cannot be reset (not Linux).

    What the allocator still holds from earlier work would otherwise count as memory of what comes next.
    """
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    if not FORGET.exists():
        return False
    FORGET.write_text("5", encoding="utf-8")
    return True


def spare_imports() -> None:
    """Leave all that exists out of later collections: for commands, when they have imported what they work with.

    :func:`start_over` collects several times a stage, among a million objects of libraries otherwise.
    """
    gc.freeze()


def resident() -> int:
    """Bytes in memory now; without /proc, the most there have ever been."""
    return _status("VmRSS")


def peak() -> int:
    """The most bytes in memory since :func:`start_over`, or ever."""
    return _status("VmHWM")


def _status(key: str) -> int:
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return (
        next(int(line.split()[1]) for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(key))
        * 1024
    )


SHORT = re.compile("can't allocate memory|not enough memory|could not create a (primitive|memory object)")
"""How torch says, in errors without a class of their own, that memory is short on the CPU."""


@contextmanager
def shortage_told(stage: str) -> Iterator[None]:
    """Say what to do if memory does not suffice for training ``stage``.

    Raises
    ------
    RunError
        in place of Python's, numpy's and torch's own errors.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        gpu = isinstance(error, torch.OutOfMemoryError)
        text = str(error).split("\n")[0]
        if not gpu and not isinstance(error, MemoryError) and not SHORT.search(text):
            raise
        base = stage.split(SEPARATOR)[0]
        hint = f"a new run with --set stages.{base}.batch=1, a smaller patch_size, or checkpointing=true for that stage"
        what = f"the {'GPU' if gpu else 'machine'}'s memory does not suffice ({text or 'no more is given'})"
        raise RunError(what, f"stage {stage}", hint) from error
