"""What a checkpoint brings back: every optimizer's state in value, type and memory layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medkit.engine import checkpoint
from medkit.engine.gradients import backward
from medkit.engine.packing import pack, unpack
from medkit.engine.runtime import Runtime
from medkit.errors import InputError, RunError
from medkit.parts.optimizers import SGD, Adam, AdamW

CPU = Runtime(torch.device("cpu"))
IMAGES = torch.rand(6, 2, 3, 9, 9, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Conv2d(4, 4, 1))
    return made.to(memory_format=torch.channels_last)


def learn(module: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor) -> None:
    for image in images:
        optimizer.zero_grad()
        module(image).square().mean().backward()
        optimizer.step()


def resumed(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, build: Callable[..., Any]) -> Any:
    """The module and the optimizer after they went through a file."""
    tensors, plain = pack(module, {"train": optimizer})
    checkpoint.write_tensors(folder / checkpoint.LAST, tensors, {"plain": plain})
    tensors, state = checkpoint.read_tensors(folder / checkpoint.LAST)
    fresh = network()
    again = build(fresh.parameters())
    unpack(tensors, state["plain"], fresh, {"train": again}, "here")
    return fresh, again


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": Adam().build,
    "adamw": AdamW().build,
    "sgd": SGD().build,
    "sgd_nesterov": SGD(nesterov=True).build,
    "amsgrad": lambda p: torch.optim.Adam(p, amsgrad=True, fused=True),
    "adafactor": torch.optim.Adafactor,
    "rprop": torch.optim.Rprop,
    "adamax": torch.optim.Adamax,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_optimizer_takes_the_steps_of_one_that_was_never_interrupted(tmp_path: Path, name: str) -> None:
    build = OPTIMIZERS[name]
    straight = network()
    optimizer = build(straight.parameters())
    learn(straight, optimizer, IMAGES[:3])
    other, again = resumed(tmp_path, straight, optimizer, build)
    learn(straight, optimizer, IMAGES[3:])
    learn(other, again, IMAGES[3:])
    for key, tensor in straight.state_dict().items():
        assert torch.equal(other.state_dict()[key], tensor), key


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_states_come_back_with_their_strides_types_and_values(tmp_path: Path, name: str) -> None:
    build = OPTIMIZERS[name]
    module = network()
    optimizer = build(module.parameters())
    learn(module, optimizer, IMAGES[:3])
    other, again = resumed(tmp_path, module, optimizer, build)
    assert again.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
    for mine, theirs in zip(module.parameters(), other.parameters(), strict=True):
        assert again.state[theirs].keys() == optimizer.state[mine].keys()
        for key, value in optimizer.state[mine].items():
            found = again.state[theirs][key]
            assert type(found) is type(value)
            if isinstance(value, Tensor):
                assert (found.dtype, found.shape, found.stride()) == (value.dtype, value.shape, value.stride()), key
                assert torch.equal(found, value), key


class Wayward(torch.optim.Optimizer):
    """Keeps what others do not: numbers in its groups, float64 and lists in its states, a state of no parameter."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1, "d": 1.0, "names": ("a", None), "best": float("inf")})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            group["d"] *= 1.1
            for p in group["params"]:
                state = self.state[p]
                state["sum"] = state.get("sum", 0) + p.grad.double()
                state["seen"] = [*state.get("seen", [])[-1:], p.grad.clone()]
                state["count"] = state.get("count", 0) + 1
                state["a.b"], state["a"] = p.grad + 1, {"b": p.grad + 2}
                p.sub_(state["sum"] * group["lr"] * group["d"] / state["count"])
        self.state["all"] = {"norm": torch.tensor(2.5, dtype=torch.bfloat16)}


def test_numbers_in_groups_and_nested_states_come_back(tmp_path: Path) -> None:
    module = network()
    optimizer = Wayward(module.parameters())
    learn(module, optimizer, IMAGES[:3])
    _, again = resumed(tmp_path, module, optimizer, Wayward)
    group = again.param_groups[0]
    assert group["d"] == optimizer.param_groups[0]["d"] != 1.0
    assert (group["names"], group["best"]) == (("a", None), float("inf"))
    assert again.state["all"]["norm"].dtype == torch.bfloat16
    first = again.state[group["params"][0]]
    assert first["sum"].dtype == torch.float64
    assert (len(first["seen"]), first["count"]) == (2, 3)
    was = optimizer.state[optimizer.param_groups[0]["params"][0]]
    assert torch.equal(first["a.b"], was["a.b"])
    assert torch.equal(first["a"]["b"], was["a"]["b"])


def test_a_state_that_no_checkpoint_can_hold_is_refused_at_the_first_one() -> None:
    module = network()
    optimizer = Adam().build(module.parameters())
    optimizer.param_groups[0]["rule"] = lambda x: x
    with pytest.raises(RunError, match=r"keeps a function.*could not be resumed"):
        pack(module, {"train": optimizer})


def test_a_checkpoint_of_an_earlier_version_is_refused() -> None:
    module = network()
    tensors, plain = pack(module, {})
    with pytest.raises(InputError, match="another version of medkit"):
        unpack(tensors, {**plain, "format": 1}, module, {}, "here")


def test_a_state_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    module = network()
    optimizer = SGD().build(module.parameters())
    with pytest.raises(InputError, match="the optimizer of 'train' does not fit"):
        resumed(tmp_path, module, optimizer, lambda p: SGD().build([{"params": list(p)}, {"params": [torch.ones(1)]}]))


def test_what_is_kept_is_plain_json() -> None:
    module = network()
    optimizer = Adam().build(module.parameters())
    learn(module, optimizer, IMAGES[:1])
    _, plain = pack(module, {"train": optimizer})
    assert json.loads(json.dumps(plain)) == plain


class Queue(nn.Module):
    """Keeps what it has seen in a buffer that is no part of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(3), persistent=False)


def test_buffers_that_are_no_weights_come_back_too() -> None:
    module, fresh = Queue(), Queue()
    module.seen += 7
    tensors, plain = pack(module, {})
    unpack(tensors, plain, fresh, {}, "here")
    assert torch.equal(fresh.seen, module.seen)


@pytest.mark.parametrize("combine", ["sum", "pcgrad"])
def test_gradients_lie_in_memory_as_their_parameters_do(combine: str) -> None:
    """Fused optimizers walk through memory and do not look at strides."""
    module = network()
    scores = module(IMAGES[0].contiguous())
    # The sum of a transposed weight gives a gradient of other strides than the weight's.
    tilt = sum((p.transpose(0, -1).contiguous() ** 2).sum() for p in module.parameters() if p.dim() == 4)
    losses = {"tilt": tilt, "scores": scores.square().mean()}
    backward(
        losses, list(module.parameters()), CPU, shared=list(module.parameters())[:3] if combine == "pcgrad" else None
    )
    assert all(p.grad.stride() == p.stride() for p in module.parameters())
