"""Optimizers of timm.optim by name: what is accepted trains, and goes on from its state bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm.optim
import torch
from torch import nn

from medkit.engine import checkpoint
from medkit.engine.packing import pack, unpack
from medkit.errors import InputError
from medkit.parts.optimizers_timm import TimmOptimizer
from medkit.testing import check_optimizer


@pytest.mark.parametrize("name", ["lamb", "lion", "adan", "nadamw", "lars", "sgd", "laprop", "novograd"])
def test_an_optimizer_of_timm_keeps_the_promises_of_its_kind(name: str) -> None:
    check_optimizer(TimmOptimizer, name=name, lr=0.1)


@pytest.mark.parametrize("name", ["lambcw", "lion", "muon", "adopt", "cadamw", "adafactor", "novograd"])
def test_a_resumed_optimizer_of_timm_goes_on_bit_for_bit(tmp_path: Path, name: str) -> None:
    settings = TimmOptimizer(name, lr=1e-3, weight_decay=0.01)

    def start() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
        layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return layers, settings.build(list(layers.parameters()))

    def train(layers: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            torch.manual_seed(step)
            optimizer.zero_grad(set_to_none=True)
            layers(torch.randn(2, 3, 8, 8)).square().mean().backward()
            optimizer.step()

    straight, optimizer = start()
    train(straight, optimizer, range(3))
    tensors, plain = pack(straight, {"t": optimizer})
    checkpoint.write_tensors(tmp_path / "last.safetensors", tensors, {"plain": plain})
    train(straight, optimizer, range(3, 6))
    resumed, other = start()
    read, state = checkpoint.read_tensors(tmp_path / "last.safetensors")
    unpack(read, state["plain"], resumed, {"t": other}, "last")
    train(resumed, other, range(3, 6))
    for a, b in zip(straight.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_every_name_of_timm_builds_or_says_why_not() -> None:
    refused = {}
    for name in timm.optim.list_optimizers():
        try:
            TimmOptimizer(name)
        except InputError as error:
            refused[name] = error.what
    assert all("second derivatives" in what or "medkit does not use" in what for what in refused.values()), refused
    assert {"lamb", "lion", "adamw", "muon"} & set(refused) == set()


def test_an_unknown_name_is_told_with_near_ones() -> None:
    with pytest.raises(InputError, match="timm has no optimizer named 'lamd'; did you mean 'lamb"):
        TimmOptimizer("lamd")


@pytest.mark.parametrize("options", [{"bettas": [0.9, 0.98]}, {"betas": [1.5, 0.9]}, {"lr": 0.1}, {"layer_decay": 0.7}])
def test_an_option_that_the_optimizer_does_not_take_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="timm's 'adamw' does not take"):
        TimmOptimizer("adamw", options=options)


def test_an_option_that_timms_own_factory_would_drop_is_refused() -> None:
    with pytest.raises(InputError, match="unexpected keyword argument 'eps'"):
        TimmOptimizer("lion", options={"eps": 1e-6})


def test_a_momentum_is_timms_own_unless_it_is_given() -> None:
    groups = [TimmOptimizer("sgdw", options=o).build([nn.Parameter(torch.zeros(2))]).param_groups for o in ({}, {"momentum": 0.5})]  # fmt: skip
    assert [group[0]["momentum"] for group in groups] == [0.9, 0.5]
