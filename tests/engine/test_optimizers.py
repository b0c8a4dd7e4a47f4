"""Which weights decay and at what rate each layer learns: the groups of a turn's optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from medkit.engine.optimizers import (
    Optimization,
    check_rates,
    check_resumable,
    parameter_groups,
    set_rate,
    table,
    turn_parameters,
)
from medkit.errors import InputError
from medkit.parts.encoders import TimmEncoder
from medkit.parts.optimizers import SGD, AdamW
from medkit.parts.schedules import Constant, Cosine, Poly
from medkit.protocols import Turn


class Task(nn.Module):
    """An encoder and a head, as an objective has them."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "head": self.head}


class Stages(nn.Module):
    """Three layers as three stages; a place embedding stands in none of them."""

    channels, strides = (4,), (1,)

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.ones(1, 4))
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4)])

    def stages(self) -> list[tuple[str, nn.Module]]:
        return [(f"layer{i}", layer) for i, layer in enumerate(self.layers)]

    def no_weight_decay(self) -> set[str]:
        return {"place"}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x + self.place)
        return x


TURN = Turn("train", ("encoder", "head"))


def task() -> Task:
    torch.manual_seed(0)
    return Task(Stages(), nn.Linear(4, 2))


def test_layers_are_counted_as_timm_counts_them_with_the_head_last() -> None:
    rows = table(parameter_groups(task(), TURN, layer_decay=0.5, no_decay=True))
    assert rows == [
        ("encoder.layer0", 1, 16, "yes", "0.125"),
        ("encoder.layer0, no decay", 2, 8, "no", "0.125"),  # its bias, and the embedding that no stage holds
        ("encoder.layer1, no decay", 2, 8, "no", "0.25"),
        ("encoder.layer2", 1, 16, "yes", "0.5"),
        ("encoder.layer2, no decay", 1, 4, "no", "0.5"),
        ("the rest", 1, 8, "yes", "1"),
        ("the rest, no decay", 1, 2, "no", "1"),
    ]


def test_every_parameter_of_a_timm_encoder_stands_in_one_group() -> None:
    made = Task(TimmEncoder("test_resnet"), nn.Linear(4, 2))
    groups = parameter_groups(made, TURN, layer_decay=0.75, no_decay=True)
    held = [p for group in groups for p in group["params"]]
    assert len(held) == len({id(p) for p in held}) == len(turn_parameters(made, TURN))
    scales = list(dict.fromkeys(group["lr_scale"] for group in groups))
    assert scales == [0.75**i for i in range(len(made.encoder.stages()), -1, -1)]


@pytest.mark.parametrize("pattern", ["layers.0.weight", "layers.0.*"])
def test_what_a_module_names_does_not_decay(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stages, "no_weight_decay", lambda self: {pattern})
    made = task()
    [first] = [g for g in parameter_groups(made, TURN, no_decay=True) if "weight_decay" not in g]
    assert {id(p) for p in first["params"]} == {
        id(made.encoder.place),
        id(made.encoder.layers[2].weight),
        id(made.head.weight),
    }


def test_weights_without_a_gradient_of_their_own_decay_only_where_the_recipe_says() -> None:
    made = task()
    before = {name: p.detach().clone() for name, p in made.named_parameters()}
    how = Optimization(AdamW(lr=0.1, weight_decay=0.5), Constant(), no_decay=True)
    optimizer = how.build(made, TURN)
    for p in made.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    moved = {name for name, p in made.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"encoder.layers.0.weight", "encoder.layers.2.weight", "head.weight"}


def test_each_layer_moves_by_its_share_of_the_rate() -> None:
    made = task()
    before = {name: p.detach().clone() for name, p in made.named_parameters()}
    optimizer = Optimization(SGD(momentum=0), Constant(), layer_decay=0.5).build(made, TURN)
    set_rate(optimizer, 0.8)
    for p in made.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    steps = {name: float((before[name] - p).detach().mean()) for name, p in made.named_parameters()}
    assert steps["encoder.layers.0.weight"] == pytest.approx(0.1)
    assert steps["encoder.layers.2.bias"] == pytest.approx(0.4)
    assert steps["head.weight"] == pytest.approx(0.8)


def test_without_groups_an_optimizer_is_given_the_flat_list_it_always_was() -> None:
    given: list[Any] = []

    @dataclass(frozen=True)
    class Watched:
        lr: float = 0.1

        def build(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
            given.extend(parameters)
            return torch.optim.SGD(given, self.lr)

    made = task()
    Optimization(Watched(), Constant()).build(made, TURN)
    assert [id(p) for p in given] == [id(p) for p in made.parameters()]


@dataclass(frozen=True)
class Flattened:
    """An optimizer that throws the groups away."""

    lr: float = 0.1

    def build(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        flat = [p for item in parameters for p in (item["params"] if isinstance(item, dict) else [item])]
        return torch.optim.SGD(flat, self.lr, weight_decay=0.1)


@dataclass(frozen=True)
class Forgetful:
    """An optimizer that leaves the last parameter out."""

    lr: float = 0.1

    def build(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        return torch.optim.SGD(list(parameters)[:-1], self.lr)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (Optimization(Flattened(), Constant(), layer_decay=0.5), "does not keep 'lr_scale'"),
        (Optimization(Flattened(), Constant(), no_decay=True), "does not keep 'weight_decay'"),
        (Optimization(Forgetful(), Constant()), "does not hold 1 of the parameters"),
        (Optimization(Forgetful(), Constant(), no_decay=True), "does not hold"),
    ],
)
def test_an_optimizer_that_loses_what_it_is_given_is_refused(how: Optimization, said: str) -> None:
    with pytest.raises(InputError, match=said):
        how.build(task(), TURN)


def test_a_turn_without_an_encoder_has_no_layers_to_decay_by() -> None:
    with pytest.raises(InputError, match="turn 'train' trains head"):
        Optimization(SGD(), Constant(), layer_decay=0.5).build(task(), Turn("train", ("head",)))


def test_a_schedule_counts_steps_where_the_recipe_says_so() -> None:
    how = Optimization(SGD(lr=1.0), Cosine(warmup=5), by="step")
    rates = [how.rate(epoch, step, 2, 10) for epoch in range(2) for step in range(10)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5] == 1.0
    assert rates[10:] == [Cosine(warmup=5).rate(1.0, step, 20) for step in range(10, 20)]


def test_a_schedule_counts_epochs_by_default() -> None:
    how = Optimization(SGD(lr=1.0), Poly(warmup=2))
    assert {how.rate(3, step, 8, 10) for step in range(10)} == {Poly(warmup=2).rate(1.0, 3, 8)}


class Odd:
    def __init__(self, value: float) -> None:
        self.value = value

    def rate(self, lr: float, epoch: int, epochs: int) -> float:
        return self.value if epoch == epochs - 1 else lr


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1])
def test_a_schedule_whose_rate_is_no_rate_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="in epoch 10 of 10"):
        check_rates(Optimization(SGD(), Odd(value)), 10, 4, "stages.s.schedule")


def test_an_optimizer_whose_state_no_checkpoint_holds_is_refused() -> None:
    def kept(value: object) -> Callable[[], None]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
        optimizer.param_groups[0]["kept"] = value
        return lambda: check_resumable(optimizer)

    kept(1.0)()
    with pytest.raises(InputError, match="could not be resumed"):
        kept(torch.float32)()
