"""Peak memory of one call: of the allocator on a GPU, of a fresh process on a CPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from medkit.bench.remote import surroundings
from medkit.engine import memory
from medkit.errors import RunError


def on_gpu(function: Callable[[], Any], device: torch.device) -> int:
    """Bytes that one call takes at most beyond what was allocated before it."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = function()
    torch.cuda.synchronize(device)
    del result
    return torch.cuda.max_memory_allocated(device) - before


def in_child(suite: Path, case: str, variant: str, environ: Mapping[str, str] | None = None) -> int:
    """Bytes that one call of a variant takes at most in a separate process, beyond what is resident at its start."""
    command = [sys.executable, "-m", "medkit.bench.child", str(suite), case, variant]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=surroundings(environ), check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise RunError(f"the process that measures memory failed: {lines[-1] if lines else 'no output'}", case)
    return int(done.stdout.split()[-1])


def on_cpu(function: Callable[[], Any]) -> int:
    """Bytes that one call takes at most in this process beyond what was resident before; most exact in a fresh one.

    A call before it makes libraries set up what they keep; what the allocator keeps from it goes back to the system.
    """
    function()
    memory.start_over()
    before = memory.resident()
    result = function()
    peak = memory.peak()
    del result
    return max(0, peak - before)
