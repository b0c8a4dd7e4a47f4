"""Worker processes: one thread each, which ignore Ctrl-C and end with their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess

MOST = 32
PATIENCE = 10.0  # seconds that a process has to finish its current work when asked to end
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def default_jobs() -> int:
    """The number of cores that this process may use, at most ``MOST``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST)


def settle(parent: int | None = None) -> None:
    """Make this process a quiet worker; ``parent`` is the process id of its parent, if it was forked.

    Ctrl-C goes to all processes of a terminal; the parent ends its workers, which must not end first and look as if
    they had failed. If the parent is killed, the system ends them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with(parent)
    # A forked process has the parent's streams, whose locks a thread, such as a progress bar's, may have held.
    sys.stdout, sys.stderr = sys.__stdout__ or sys.stdout, sys.__stderr__ or sys.stderr
    import cv2

    cv2.setNumThreads(0)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def die_with(parent: int | None) -> None:
    """Have the system end this process as soon as its parent ends; only on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:  # the parent ended before this was set up
            os._exit(1)


def end_all(processes: Sequence[BaseProcess]) -> None:
    """End processes together: all are asked to, and any that has not ended within ``PATIENCE`` is killed."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
