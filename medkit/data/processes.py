"""Processes that work for another one: one thread each, deaf to Ctrl-C, and gone when the other one is."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess

MOST = 32
PATIENCE = 10.0  # seconds that a process has to finish what it is at when it is to end
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def default_jobs() -> int:
    """The cores that this process may use, at most ``MOST``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST)


def settle(parent: int | None = None) -> None:
    """Make this process a quiet worker; ``parent`` is who started it, if it was forked.

    Ctrl-C goes to all processes of a terminal: the parent hears it and ends its workers, which must not end first and
    look as if they had failed. A parent that is killed cannot end them: the system does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with(parent)
    # A forked process has the parent's streams, whose locks a thread may have held, such as that of a progress bar.
    sys.stdout, sys.stderr = sys.__stdout__ or sys.stdout, sys.__stderr__ or sys.stderr
    import cv2

    cv2.setNumThreads(0)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def die_with(parent: int | None) -> None:
    """Have the system end this process as soon as its parent is gone; on Linux, elsewhere nothing is done."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:  # it went before it could be asked for
            os._exit(1)


def end_all(processes: Sequence[BaseProcess]) -> None:
    """End processes at once: all are asked, and who does not go within ``PATIENCE`` is killed."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
