"""Mistakes of what turns gradients into steps (optimizers, schedules, bounds on gradients) that pass a glance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from medkit.registry.plugins import registry
from medkit.testing import check_component, check_optimizer


@pytest.mark.parametrize("entry", [*registry().of_kind("optimizer"), *registry().of_kind("schedule")], ids=str)
def test_medkit_s_own_optimizers_and_schedules_pass(entry: Any) -> None:
    check_component(entry.kind, entry.full_name, **({"name": "lamb"} if entry.name == "timm" else {}))


@dataclass
class OtherRate:
    """Trains at another rate than it says."""

    lr: float = 0.1

    def build(self, parameters: Any) -> Any:
        return torch.optim.SGD(parameters, self.lr / 10)


@dataclass
class Deaf:
    """Does not obey the schedule."""

    lr: float = 0.1

    def build(self, parameters: Any) -> Any:
        class Fixed(torch.optim.SGD):
            def step(self, closure: Any = None) -> None:
                for group in self.param_groups:
                    for p in group["params"]:
                        p.data.sub_(0.1 * p.grad)

        return Fixed(parameters, self.lr)


@pytest.mark.parametrize(("optimizer", "message"), [(OtherRate, "the rates"), (Deaf, "learning rate of 0")])
def test_an_optimizer_s_mistake_is_named(optimizer: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_optimizer(optimizer)


class Longer:
    """Makes gradients longer."""

    def clip(self, parameters: Any) -> None:
        for p in parameters:
            p.grad.mul_(2)


class Fading:
    """Depends on what it was asked before."""

    def __init__(self) -> None:
        self.factor = 1.0

    def clip(self, parameters: Any) -> None:
        self.factor /= 2
        for p in parameters:
            p.grad.mul_(self.factor)


class Replacing:
    """Puts other tensors in the place of the gradients."""

    def clip(self, parameters: Any) -> None:
        for p in parameters:
            p.grad = p.grad.clamp(-1, 1)


@pytest.mark.parametrize(
    ("broken", "said"),
    [(Longer, "longer"), (Fading, "depends on earlier calls"), (Replacing, "in place")],
    ids=lambda v: str(v),
)
def test_a_bound_on_gradients_that_is_none_is_found(broken: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_component("clip", broken)
