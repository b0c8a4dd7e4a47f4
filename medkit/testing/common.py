"""Shared by the checks of all kinds."""

from __future__ import annotations

import contextlib
import copy
import random
import sys
import unittest.mock
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.registry import Entry
from medkit.registry.promises import check_promises
from medkit.registry.schema import schema_of
from medkit.registry.static import static_schema

CHANNELS, STRIDES = (6, 8, 12), (2, 4, 8)
PATCH, PREFIX_TOKENS, WIDTH = (8, 8), 1, 10
BESIDE: dict[str, Any] = {
    "channels": CHANNELS,
    "strides": STRIDES,
    "patch": PATCH,
    "prefix_tokens": PREFIX_TOKENS,
    "width": WIDTH,
}
"""What the encoder used with a component offers."""
STRIDES_3D = ((1, 2, 2), (2, 4, 4), (4, 8, 8))
"""Strides of the encoder used with a component for volumes."""

CALLS = 5
"""Calls in training before a state is saved, so that a queue is filled by then, and calls after it."""


def check_schema(constructor: Callable[..., Any]) -> None:
    """Every argument is annotated, none is ``*`` or ``**``, and the first line of the docstring says what it is.

    What ``medkit check`` reads from the source must agree with the class itself.
    """
    try:
        schema = schema_of(constructor)
    except InputError as error:
        raise AssertionError(f"the constructor cannot be a schema: {error}") from error
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
        assert said == true, f"'medkit check' reads '{argument}' of {name} as {said}, but the class says {true}"


def build(constructor: Callable[..., Any], arguments: Mapping[str, Any], kind: str = "", seed: int = 0) -> Any:
    """Build a component under a seed, with what it needs from its encoder; with ``kind``, check its promises."""
    check_schema(constructor)
    given: dict[str, Any] = {}
    beside = BESIDE | ({"strides": STRIDES_3D} if dimensions(constructor) == (3,) else {})
    for name, argument in schema_of(constructor).arguments.items():
        root, _, attribute = argument.given.path.partition(".") if argument.given is not None else ("", "", "")
        if root == "encoder" and attribute in beside:
            given[name] = beside[attribute]
    torch.manual_seed(seed)
    component = constructor(**given | dict(arguments))
    if kind:
        try:
            check_promises(component, kind, getattr(constructor, "__name__", kind))
        except InputError as error:
            raise AssertionError(str(error)) from error
    return component


def dimensions(component: Any) -> tuple[int, ...]:
    """The dimensions that a component declares: 3 for volumes, (2, 3) for either; by default 2."""
    found = getattr(component, "dimensions", 2)
    return tuple(found) if isinstance(found, tuple) else (int(found),)


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Turn an error of shapes into a sentence."""
    try:
        yield
    except (RuntimeError, IndexError, ValueError) as error:
        raise AssertionError(f"{what}: {error}") from error


def _states() -> tuple[Any, ...]:
    """Where Python's and numpy's generators stand: numpy's words stay the same for 624 draws, its position does not."""
    numpys = np.random.get_state(legacy=False)["state"]
    return random.getstate(), numpys["key"].tolist(), numpys["pos"]


@contextlib.contextmanager
def python_and_numpy_rest(what: str) -> Iterator[None]:
    """Check that only torch's generator is used, which the engine seeds before every step."""
    before = _states()
    yield
    after = _states()
    assert before == after, f"{what} draws from Python's or numpy's generator, which is not seeded: use torch's"


@contextlib.contextmanager
def generators_rest(what: str) -> Iterator[None]:
    """Check that torch's generator is drawn from at most, neither seeded nor put back, and that others are not used."""
    touched: list[str] = []

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            touched.append(name)
            return function(*arguments, **more)

        return call

    before = torch.initial_seed()
    with contextlib.ExitStack() as stack, python_and_numpy_rest(what):
        for place in (torch, torch.random):
            for name in ("manual_seed", "seed", "set_rng_state"):
                stack.enter_context(unittest.mock.patch.object(place, name, watched(name, getattr(place, name))))
        yield
    seeds = torch.initial_seed() != before or touched
    assert not seeds, (
        f"{what} sets torch's seed or state, on which repeating and resuming steps relies: every step would draw the "
        "same. Draw without seeding: medkit seeds every step"
    )


def example_features(size: Sequence[int], batch: int = 3, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """A pyramid for images of (height, width), or volumes of (depth, height, width): (N,C,h,w) or (N,C,d,h,w) each."""
    made = torch.Generator().manual_seed(1)
    strides = STRIDES_3D if len(size) == 3 else [(s, s) for s in STRIDES]
    return [
        torch.randn(batch, c, *(-(-side // s) for side, s in zip(size, each, strict=True)), generator=made).to(dtype)
        for c, each in zip(CHANNELS, strides, strict=True)
    ]


class ExampleEncoder(nn.Module):
    """The encoder for a head that has its own ``encode``: a pyramid of maps, and patch tokens.

    Shapes: (N,1,H,W) to maps as of :func:`example_features`; ``tokens`` to (N,P+K,D) as in
    :class:`medkit.protocols.Encoder`.
    """

    patch, prefix_tokens, width = PATCH, PREFIX_TOKENS, WIDTH
    channels, strides = CHANNELS, STRIDES

    def __init__(self) -> None:
        super().__init__()
        made = torch.Generator().manual_seed(5)
        sizes = zip(CHANNELS, STRIDES, strict=True)
        self.kernels = nn.ParameterList(torch.randn(c, 1, s, s, generator=made) / s for c, s in sizes)
        self.embed = nn.Parameter(torch.randn(WIDTH, 1, *PATCH, generator=made) / PATCH[0])
        self.prefix = nn.Parameter(torch.randn(1, PREFIX_TOKENS, WIDTH, generator=made))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [F.conv2d(_whole(x, (s, s)), k, stride=s) for k, s in zip(self.kernels, STRIDES, strict=True)]

    def tokens(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        found = F.conv2d(_whole(x, PATCH), self.embed, stride=PATCH).flatten(2).transpose(1, 2)
        if keep is not None:
            found = found.gather(1, keep[..., None].expand(-1, -1, WIDTH))
        return torch.cat([self.prefix.expand(len(x), -1, -1), found + found.mean(1, keepdim=True)], 1)


def _whole(x: Tensor, patch: tuple[int, int]) -> Tensor:
    """Images padded with zeros below and at the right, up to whole patches."""
    return F.pad(x, (0, -x.shape[3] % patch[1], 0, -x.shape[2] % patch[0]))


def check_gradients(module: nn.Module, loss: Tensor) -> None:
    """Every parameter gets a finite gradient from ``loss``."""
    module.zero_grad()
    loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, f"no gradient reaches '{name}': it would never train"
        assert torch.isfinite(parameter.grad).all(), f"the gradient of '{name}' is not finite"


def check_construction(constructor: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """The same seed gives the same weights; every tensor is a parameter or buffer, so that it is moved and saved."""
    first, second = build(constructor, arguments), build(constructor, arguments)
    same(
        first.state_dict(), second.state_dict(), "two constructions under one seed differ: draw from torch's generator"
    )
    for place, module in first.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and f"{name}_orig" not in module._parameters:
                where = f"{place}.{name}" if place else name
                raise AssertionError(f"'{where}' is neither parameter nor buffer, so .to(device) does not move it")


def check_state(
    module: nn.Module, output: Callable[[nn.Module], Any], fresh: Callable[[], nn.Module] | None = None
) -> None:
    """Weights survive safetensors: another module (``fresh()``, else a copy) with them gives the same output."""
    other = _with_weights_of(module, copy.deepcopy(module) if fresh is None else fresh())
    module.eval(), other.eval()
    torch.manual_seed(2)
    first = output(module)
    torch.manual_seed(2)
    same(first, output(other), "after a round trip of its weights, the output differs")


def check_resumes(module: nn.Module, output: Callable[[nn.Module], Any], fresh: Callable[[], nn.Module]) -> None:
    """In training, a new module with the weights of one that was called several times goes on as that one does."""
    module.train()
    for call in range(CALLS):
        torch.manual_seed(call)
        output(module)
    other = _with_weights_of(module, fresh()).train()
    for call in range(CALLS):
        found = []
        for each in (module, other):
            torch.manual_seed(CALLS + call)
            found.append(output(each))
        message = (
            "after a round trip of its weights, output or loss in training differ: something that changes from call to "
            "call is kept in an attribute, so a resumed run would differ: keep it in a buffer (register_buffer)"
        )
        same(found[0], found[1], message)


def _with_weights_of(module: nn.Module, other: nn.Module) -> nn.Module:
    """``other`` with the weights of ``module``, by way of safetensors."""
    weights = load(save({k: v.contiguous().clone() for k, v in module.state_dict().items()}))
    for parameter in other.parameters():
        nn.init.constant_(parameter, 0.5)
    try:
        other.load_state_dict(weights)
    except RuntimeError as error:
        raise AssertionError(f"its weights do not fit a second one of its kind: {error}") from error
    return other


def same(a: Any, b: Any, message: str) -> None:
    if isinstance(a, Tensor):
        assert a.shape == b.shape, message
        assert bool(((a == b) | ((a != a) & (b != b))).all()), message  # nan equals nan here
    elif isinstance(a, Mapping):
        assert a.keys() == b.keys(), message
        for key in a:
            same(a[key], b[key], message)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), message
        for x, y in zip(a, b, strict=True):
            same(x, y, message)


def check_dtype(module: nn.Module, output: Callable[[nn.Module], Any]) -> None:
    """The module computes in float64 when converted: it does not make float32 tensors of its own."""
    try:
        output(copy.deepcopy(module).double().eval())
    except RuntimeError as error:
        raise AssertionError(f"in float64 it fails, so it makes tensors of a fixed type: {error}") from error


def check_devices(module: nn.Module, output: Callable[[nn.Module, torch.device], Any]) -> None:
    """The module moves to a GPU with everything it needs (checked if there is one)."""
    if torch.cuda.is_available():
        device = torch.device("cuda")
        output(copy.deepcopy(module).to(device), device)
