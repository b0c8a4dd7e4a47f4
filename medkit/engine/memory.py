"""Memory of this process: give back what is free, forget the peak, read it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
from pathlib import Path

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def start_over() -> bool:
    """Give freed memory back to the system and forget the peak so far; False where peaks are kept for ever (not Linux).

    What the allocator still holds of earlier work would count as memory of the next.
    """
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    if not FORGET.exists():
        return False
    FORGET.write_text("5", encoding="utf-8")
    return True


def resident() -> int:
    """Bytes in memory now; without /proc, the most there ever were."""
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
