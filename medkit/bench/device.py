"""The device at hand: which one it is, and which kinds of arithmetic it has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from medkit.errors import InputError


def place(name: str | None = None) -> torch.device:
    """The device called ``name`` (``cpu``, ``cuda``, ``cuda:1``); by default the first GPU if there is one.

    Raises
    ------
    InputError
        if there is no such device.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if name == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or not (number.isdigit() or name == "cuda"):
        raise InputError(f"'{name}' is not a device to measure", "--device", "cpu, cuda or cuda:NUMBER")
    if not torch.cuda.is_available():
        raise InputError("no CUDA device was found", hint="use --device cpu")
    if int(number or 0) >= torch.cuda.device_count():
        raise InputError(f"there is no {name}: CUDA devices found: {torch.cuda.device_count()}", "--device")
    return torch.device("cuda", int(number or 0))


def current(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Within it, events and kernels belong to ``device``."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Single precision on a GPU with or without TF32; as it was before when the block ends.

    Unless told otherwise, PyTorch lets convolutions use TF32 but not matrix products: forms of one operator that use
    one or the other would then differ by a thousandth, and "float32" would name two things.
    """
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32, convolutions.allow_tf32 = allowed, allowed
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


def has_bf16(device: torch.device) -> bool:
    """Whether ``device`` computes in bfloat16 natively; measuring an emulation would be pointless."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def has_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
