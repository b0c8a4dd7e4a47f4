"""State that no checkpoint holds: each check finds it, also where it is used only after several steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from seam.test_conformance_broken import SoundGenerator, SoundHead
from torch import nn

from medkit.api import Channels, Placed
from medkit.objectives.restoration import Restoration
from medkit.parts.losses import L1
from medkit.testing import check_distiller, check_objective, check_pretext


class Queue(Restoration):
    """Keeps past batches in a list, and uses them once it is full."""

    def losses(self, turn: str, batch: Any) -> Any:
        mean = self.generator(batch["image"]).mean()
        self.past = [*getattr(self, "past", []), mean.detach()][-4:]
        more = (mean - sum(self.past) / 4).square() if len(self.past) == 4 else 0
        return {name: value + more for name, value in super().losses(turn, batch).items()}


class Every(Restoration):
    """Counts its steps in an attribute; every so many weigh more."""

    period = 0

    def losses(self, turn: str, batch: Any) -> Any:
        self.asked = getattr(self, "asked", 0) + 1
        weight = 4 if self.asked % self.period == 0 else 1
        return {name: value * weight for name, value in super().losses(turn, batch).items()}


@pytest.mark.parametrize(
    "objective", [Queue, *(type(f"Every{n}", (Every,), {"period": n, "__doc__": "."}) for n in range(2, 6))]
)
def test_an_objective_s_state_that_is_used_after_several_steps_is_found(objective: Any) -> None:
    with pytest.raises(AssertionError, match="steps from saved weights differ"):
        check_objective(objective, generator=SoundGenerator(), losses={"l1": Placed(L1(), {"weight": 1.0})})


class Centred(SoundHead):
    """Keeps a running centre of its output in an attribute, in training only."""

    center: Any = 0.0

    def loss(self, output: Any, target: Any) -> Any:
        if self.training:
            self.center = 0.9 * self.center + 0.1 * float(output.mean())
        return super().loss(output - torch.tensor([1.0, 0, 0, 0]) * self.center, target)


class Listed(SoundHead):
    """Keeps past outputs in a list, and uses them once there are three."""

    past: Any = ()

    def loss(self, output: Any, target: Any) -> Any:
        self.past = [*self.past, float(output.mean())][-3:]
        weight = 1 + self.past[0] if len(self.past) == 3 else 1
        return {name: term * weight for name, term in super().loss(output, target).items()}


class Buffered(SoundHead):
    """Keeps its running centre where checkpoints hold it."""

    def __init__(self, channels: Channels, hidden: int = 4) -> None:
        super().__init__(channels, hidden)
        self.register_buffer("center", torch.zeros(()))

    def loss(self, output: Any, target: Any) -> Any:
        if self.training:
            self.center.lerp_(output.detach().mean().to(self.center), 0.1)
        return super().loss(output - torch.tensor([1.0, 0, 0, 0]) * self.center, target)


@pytest.mark.parametrize("head", [Centred, Listed])
def test_a_head_s_state_in_an_attribute_that_its_loss_changes_is_found(head: Any) -> None:
    check_pretext(Buffered)
    with pytest.raises(AssertionError, match="output or loss in training differ"):
        check_pretext(head)


class Agree(nn.Module):
    """Say what the teacher says, relative to a centre in an attribute."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.projector, self.center = Rows(channels[-1]), 0.0

    def loss(self, student: Any, teacher: Any, progress: float) -> Any:
        if self.training:
            self.center = 0.5 * self.center + 0.5 * float(teacher[0].mean())
        moved = self.center if self.training else 0.0
        return {"mse": (student[0] - teacher[0].flip(1) + moved).square().mean()}


class Rows(nn.Module):
    """Rows of a pyramid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 4)

    def forward(self, features: Any) -> Any:
        return self.layer(features[-1].mean((2, 3)))


def test_a_distiller_s_centre_in_an_attribute_is_found() -> None:
    with pytest.raises(AssertionError, match="keep it in a buffer"):
        check_distiller(Agree)
