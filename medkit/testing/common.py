"""What the checks of all kinds share."""

from __future__ import annotations

import contextlib
import copy
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.registry import Entry
from medkit.registry.promises import check_promises
from medkit.registry.schema import schema_of
from medkit.registry.static import static_schema

CHANNELS, STRIDES = (6, 8, 12), (2, 4, 8)


def check_schema(constructor: Callable[..., Any]) -> None:
    """Every argument is annotated, none is ``*`` or ``**``, and the first line of the docstring says what it is.

    What ``medkit check`` reads from the source has to be what the class itself says.
    """
    try:
        schema = schema_of(constructor)
    except InputError as error:
        raise AssertionError(f"the constructor is no schema: {error}") from error
    assert schema.description, f"{schema.name} has no docstring to describe it in 'medkit show'"
    module, name = getattr(constructor, "__module__", ""), getattr(constructor, "__qualname__", "<")
    if "<" in name or getattr(sys.modules.get(module), name, None) is not constructor:
        return  # made inside a function, or not found under its own name
    read = static_schema(Entry("component", "tested", name, f"{module}:{name}", ""))
    for argument in {*read.arguments, *schema.arguments}:
        mine, other = (s.arguments.get(argument) for s in (read, schema))
        assert mine is not None, f"'medkit check' does not see '{argument}', which {name} takes"
        assert other is not None, f"'medkit check' sees '{argument}', which {name} does not take"
        said, true = ((a.required, a.given, a.shape, a.type_name()) for a in (mine, other))
        assert said == true, f"'medkit check' reads '{argument}' of {name} as {said}, the class says {true}"


def build(constructor: Callable[..., Any], arguments: Mapping[str, Any], kind: str = "", seed: int = 0) -> Any:
    """A component under a seed, with an encoder's channels and strides where it asks for them; ``kind`` checks it."""
    check_schema(constructor)
    given = {"channels": CHANNELS, "strides": STRIDES}
    wanted = schema_of(constructor).arguments
    torch.manual_seed(seed)
    component = constructor(**{k: v for k, v in given.items() if k in wanted} | dict(arguments))
    if kind:
        try:
            check_promises(component, kind, getattr(constructor, "__name__", kind))
        except InputError as error:
            raise AssertionError(str(error)) from error
    return component


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """An error of shapes becomes a sentence."""
    try:
        yield
    except (RuntimeError, IndexError, ValueError) as error:
        raise AssertionError(f"{what}: {error}") from error


@contextlib.contextmanager
def python_and_numpy_rest(what: str) -> Iterator[None]:
    """Draws from torch's generator only, which the engine seeds before every step."""
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    yield
    after = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    assert before == after, f"{what} draws from Python's or numpy's generator, which nobody seeds: use torch's"


def example_features(size: tuple[int, int], batch: int = 3, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    made = torch.Generator().manual_seed(1)
    return [
        torch.randn(batch, c, -(-size[0] // s), -(-size[1] // s), generator=made).to(dtype)
        for c, s in zip(CHANNELS, STRIDES, strict=True)
    ]


def check_gradients(module: nn.Module, loss: Tensor) -> None:
    """Every parameter gets a finite gradient from ``loss``."""
    module.zero_grad()
    loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, f"no gradient reaches '{name}': it would never train"
        assert torch.isfinite(parameter.grad).all(), f"the gradient of '{name}' is not finite"


def check_construction(constructor: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """The same seed gives the same weights; every tensor is a parameter or a buffer, so that it moves and is saved."""
    first, second = build(constructor, arguments), build(constructor, arguments)
    same(
        first.state_dict(), second.state_dict(), "two constructions under one seed differ: draw from torch's generator"
    )
    for place, module in first.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and f"{name}_orig" not in module._parameters:
                where = f"{place}.{name}" if place else name
                raise AssertionError(f"'{where}' is neither parameter nor buffer: it stays behind on .to(device)")


def check_state(
    module: nn.Module, output: Callable[[nn.Module], Any], fresh: Callable[[], nn.Module] | None = None
) -> None:
    """Weights survive safetensors: another one (``fresh()``, else a copy) with them gives the same output."""
    weights = load(save({k: v.contiguous().clone() for k, v in module.state_dict().items()}))
    other = copy.deepcopy(module) if fresh is None else fresh()
    for parameter in other.parameters():
        nn.init.constant_(parameter, 0.5)
    try:
        other.load_state_dict(weights)
    except RuntimeError as error:
        raise AssertionError(f"its weights do not fit another one: {error}") from error
    module.eval(), other.eval()
    torch.manual_seed(2)
    first = output(module)
    torch.manual_seed(2)
    same(first, output(other), "after a round trip of its weights, the output differs")


def same(a: Any, b: Any, message: str) -> None:
    if isinstance(a, Tensor):
        assert torch.equal(a, b), message
    elif isinstance(a, Mapping):
        assert a.keys() == b.keys(), message
        for key in a:
            same(a[key], b[key], message)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), message
        for x, y in zip(a, b, strict=True):
            same(x, y, message)


def check_dtype(module: nn.Module, output: Callable[[nn.Module], Any]) -> None:
    """The module computes in float64 when moved there: it makes no float32 tensors of its own."""
    try:
        output(copy.deepcopy(module).double().eval())
    except RuntimeError as error:
        raise AssertionError(f"in float64 it fails, so it makes tensors of a fixed type: {error}") from error


def check_devices(module: nn.Module, output: Callable[[nn.Module, torch.device], Any]) -> None:
    """The module moves to a GPU with everything it needs (checked where there is one)."""
    if torch.cuda.is_available():
        device = torch.device("cuda")
        output(copy.deepcopy(module).to(device), device)
