"""Peak memory of one call: of the allocator on a GPU, of a fresh process on a CPU."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from medkit.bench.remote import surroundings
from medkit.errors import RunError

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def on_gpu(function: Callable[[], Any], device: torch.device) -> int:
    """Bytes that one call takes at most above what was allocated before it."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = function()
    torch.cuda.synchronize(device)
    del result
    return torch.cuda.max_memory_allocated(device) - before


def in_child(suite: Path, case: str, variant: str, environ: Mapping[str, str] | None = None) -> int:
    """Bytes that one call of a variant takes at most in a process of its own, above what is resident at its start."""
    command = [sys.executable, "-m", "medkit.bench.child", str(suite), case, variant]
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings(environ), check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise RunError(f"the process that measures memory failed: {lines[-1] if lines else 'no output'}", case)
    return int(done.stdout.split()[-1])


def on_cpu(function: Callable[[], Any]) -> int:
    """Bytes that one call takes at most in this process above what was resident before; most exact in a fresh one.

    A call before it has libraries set up what they keep; what the allocator keeps of it goes back to the system.
    """
    function()
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    before = _resident("VmRSS")
    if FORGET.exists():
        FORGET.write_text("5")
    result = function()
    peak = _resident("VmHWM")
    del result
    return max(0, peak - before)


def _resident(key: str) -> int:
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(key)) * 1024
