"""Toy cases: quick functions whose results are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from medkit.bench import Case, Target, Unavailable, Variant, Work


def ones(value: float = 1.0, number: int = 1000) -> Callable[[torch.device], Callable[[], Any]]:
    return lambda device: lambda: torch.full((number,), value, device=device)


def absent(device: torch.device) -> Callable[[], Any]:
    raise Unavailable("it needs another machine")


def toy(*others: Variant, **options: Any) -> Case:
    return Case("toy", (Variant("plain", ones()), *others), **{"rounds": 4, **options})


def cases() -> list[Case]:
    return [
        toy(
            Variant("same", ones()),
            Variant("large", ones(number=5_000_000), same=False),
            memory=True,
            quick=True,
            work=Work(flops=1000, bytes=4000),
            targets=(Target("same", "error", 0.0),),
        )
    ]
