"""Losses of several turns are told apart, those with weights of their own learn, and what no turn trains is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from engine.test_adversarial_options import Judge
from helpers import fit
from torch import Tensor, nn

from medkit.engine.events import Message
from medkit.errors import InputError, RunError
from medkit.objectives.adversarial import Adversarial
from medkit.objectives.restoration import Restoration
from medkit.objectives.volume import VolumeTask
from medkit.parts.losses import BCE, L1
from medkit.parts.optimizers import Adam
from medkit.parts.schedules import Constant
from medkit.protocols import Turn
from medkit.registry.marks import Placed


class Balanced(nn.Module):
    """A loss that learns how much it is worth (Kendall et al. 2018)."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss, self.log_var = loss, nn.Parameter(torch.zeros(()))

    def forward(self, first: Any, second: Any, /, **context: Any) -> Tensor:
        return torch.exp(-self.log_var) * self.loss(first, second, **context) + self.log_var


class Pyramid(nn.Conv2d):
    def forward(self, x: Tensor) -> Any:
        return [super().forward(x)]


class Sums(nn.Module):
    """An operator: the sum over a volume's slices."""

    task = "classification"

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def slices(self, features: Any) -> Tensor:
        return features[-1].mean((1, 2, 3))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        return self.scale * features.sum(1)


class Real(nn.Module):
    """A loss of the discriminator."""

    def forward(self, real: Any, fake: Any, **context: Any) -> Tensor:
        return (real["cls"] - fake["cls"]).square().mean()


class Two(nn.Module):
    """Two turns, whose losses are both called ``error``."""

    unit = "slice"

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 1), nn.Linear(2, 1)

    def turns(self) -> list[Turn]:
        return [Turn("first", ("a",)), Turn("second", ("b",))]

    def parts(self) -> dict[str, nn.Module]:
        return {"a": self.a, "b": self.b}

    def losses(self, turn: str, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"error": (self.a if turn == "first" else self.b)(batch["x"]).square().mean()}


class Partly(Two):
    """One turn, which trains one of two networks."""

    def turns(self) -> list[Turn]:
        return [Turn("first", ("a",))]


class Loader:
    steps = 3

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        drawn = torch.Generator().manual_seed(0)
        for _ in range(start, self.steps):
            images = torch.rand(4, 1, 8, 8, generator=drawn)
            yield {
                "x": torch.ones(3, 2),
                "image": images,
                "target": 1 - images,
                "label": torch.tensor([0.0, 1.0]),
                "lengths": torch.tensor([2, 2]),
                "ids": ["case"],
            }


class Said:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, event: Message) -> None:
        self.texts.append(event.text)


def train(objective: Any, folder: Path, said: Said | None = None) -> None:
    names = [turn.name for turn in objective.turns()]
    fit(
        objective,
        Loader(),
        folder,
        listeners=[said] if said else [],
        epochs=1,
        optimizers={name: Adam(lr=0.1) for name in names},
        schedules={name: Constant() for name in names},
    )


def placed(loss: nn.Module) -> Placed:
    return Placed(loss, {"weight": 1.0})


def test_a_loss_of_the_generator_named_as_one_of_the_discriminator_is_refused() -> None:
    with pytest.raises(InputError, match="are both named 'adv'"):
        Adversarial(nn.Conv2d(1, 1, 1), Judge(), {"adv": placed(L1())}, {"adv": placed(Real())})


def test_losses_of_two_turns_with_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the turns 'first' and 'second' both have a loss 'error'"):
        train(Two(), tmp_path)


@pytest.mark.parametrize(
    ("made", "loss"),
    [
        (lambda loss: VolumeTask(Pyramid(1, 1, 1), Sums(), {"bce": placed(loss)}), BCE),
        (lambda loss: Restoration(nn.Conv2d(1, 1, 1), {"l1": placed(loss)}), L1),
        (lambda loss: Adversarial(nn.Conv2d(1, 1, 1), Judge(), {"l1": placed(loss)}, {"adv": placed(Real())}), L1),
    ],
)
def test_a_loss_with_a_weight_of_its_own_is_trained(made: Any, loss: Any, tmp_path: Path) -> None:
    balanced = Balanced(loss())
    train(made(balanced), tmp_path)
    assert balanced.log_var.item() != 0


def test_a_discriminator_s_loss_with_a_weight_of_its_own_is_trained_in_its_turn(tmp_path: Path) -> None:
    balanced = Balanced(Real())
    train(Adversarial(nn.Conv2d(1, 1, 1), Judge(), {"l1": placed(L1())}, {"adv": placed(balanced)}), tmp_path)
    assert balanced.log_var.item() != 0


def test_weights_that_no_turn_trains_are_told(tmp_path: Path) -> None:
    said = Said()
    train(Partly(), tmp_path, said)
    assert "small: no turn trains b.weight, b.bias, though it could be trained" in said.texts
