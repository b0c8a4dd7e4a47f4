"""A suite for the command: a wrong variant, a case that is right, one without its truth, and one that may kill."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

from medkit.bench import Case, Variant


def ones(value: float = 1.0) -> Callable[[torch.device], Callable[[], Any]]:
    return lambda device: lambda: torch.full((100,), value, device=device)


def broken(device: torch.device) -> Callable[[], Any]:
    raise ValueError("it broke")


def deadly(device: torch.device) -> Callable[[], Any]:
    if "TOY_DIES" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    return lambda: torch.ones(100)


def cases() -> list[Case]:
    return [
        Case("wrong", (Variant("plain", ones()), Variant("wrong", ones(1.5)))),
        Case("right", (Variant("plain", ones()), Variant("same", ones()))),
        Case("no truth", (Variant("plain", ones()),), truth=broken),
        Case("last", (Variant("plain", deadly),)),
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_toy(case: Case, versus: Callable[[Case], None]) -> None:
    versus(case)
