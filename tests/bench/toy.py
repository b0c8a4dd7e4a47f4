"""Toy cases: quick functions whose results are known."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from medkit.bench import Case, Rectified, Signs, Target, Truth, Unavailable, Variant, Work


def ones(value: float = 1.0, number: int = 1000) -> Callable[[torch.device], Callable[[], Any]]:
    return lambda device: lambda: torch.full((number,), value, device=device)


def absent(device: torch.device) -> Callable[[], Any]:
    raise Unavailable("it needs another machine")


def named(device: torch.device) -> Callable[[], Any]:
    """What an environment variable says, and a page of memory more for every call."""
    print("a suite that prints")
    return lambda: torch.tensor([float(os.environ.get("TOY", "0"))])


def broken(device: torch.device) -> Callable[[], Any]:
    def call() -> None:
        raise ValueError("it broke")

    return call


ARGUMENTS = torch.linspace(-1, 1, 100_001, dtype=torch.float64) ** 3  # dense near zero, which is the one in the middle


def gradients(arguments: Tensor, signs: Tensor) -> list[Tensor]:
    """Of the sum of ``x * relu(x) + relu(x)``, the ReLUs open where they are told to be."""
    return [torch.where(signs, 2 * arguments + 1, 0)]


def relus(moved: float = 0.0, at: int | slice = 50_000, slope: float = 1.0) -> Callable[[torch.device], Rectified]:
    """Gradients in single precision; the argument ``at`` is moved, and all gradients are ``slope`` times too large."""

    def make(device: torch.device) -> Rectified:
        def traced() -> tuple[list[Tensor], Signs]:
            arguments = ARGUMENTS.float()
            arguments[at] += moved
            signs = arguments > 0
            return [slope * one for one in gradients(ARGUMENTS.float(), signs)], [signs]

        return Rectified(lambda: traced()[0], traced)

    return make


def exact(device: torch.device) -> Truth:
    def run(signs: Signs | None) -> tuple[list[Tensor], list[Tensor]]:
        own = ARGUMENTS > 0
        return gradients(ARGUMENTS, own if signs is None else signs[0]), [ARGUMENTS]

    return run


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
        ),
        Case(
            "processes",
            (
                Variant("here", named),
                Variant("one", named, environ={"TOY": "1"}),
                Variant("two", named, environ={"TOY": "2"}),
                Variant("absent", absent, environ={}),
            ),
            tolerance=2.0,
            rounds=3,
        ),
        Case("broken", (Variant("here", named), Variant("broken", broken, environ={}))),
    ]
