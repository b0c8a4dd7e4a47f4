"""Variants made by torch.compile, if a compiler is at hand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import torch

from medkit.bench.case import Unavailable


def compiled(function: Callable[..., Any], device: torch.device, **options: Any) -> Callable[..., Any]:
    """``torch.compile(function)``; compilation happens at the first call, which is not timed.

    Raises
    ------
    Unavailable
        if what it needs (a C++ compiler on a CPU, Triton on a GPU) is not there.
    """
    if device.type == "cuda":
        import importlib.util

        if importlib.util.find_spec("triton") is None:
            raise Unavailable("torch.compile needs Triton on a GPU")
        if torch.cuda.get_device_capability(device) < (7, 0):
            raise Unavailable("torch.compile needs a GPU of compute capability 7.0 or newer")
    elif shutil.which(os.environ.get("CXX", "g++")) is None and shutil.which("clang++") is None:
        raise Unavailable("torch.compile needs a C++ compiler on a CPU")
    torch.compiler.reset()  # forgets the code of earlier cases; all variants of a case are made before any is called
    return torch.compile(function, dynamic=False, **options)
