"""A 3x3x3 convolution of one volume: PyTorch's, in channels-last memory, as two-dimensional ones, and factorised."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from medkit_smartnet.conv3d import Factorised3d
from torch import Tensor, nn

from medkit.bench import Case, Target, Unavailable, Variant, Work, compiled, has_bf16, has_tf32, tf32
from medkit.parts.convblocks import Conv3d, conv3d_as_2d

Shape = tuple[int, int, int, int]  # C, D, H, W
LAST = torch.channels_last_3d
BF16 = 0.1  # allowed error of a result whose standard deviation is about 0.6: bfloat16 keeps 8 bits


def convolution(shape: Shape, outputs: int, dtype: torch.dtype, device: torch.device) -> tuple[nn.Conv3d, Tensor]:
    torch.manual_seed(0)
    layer = Conv3d(shape[0], outputs).to(device, dtype)
    return layer, torch.randn(1, *shape).to(device, dtype)


def contiguous(layer: nn.Conv3d, x: Tensor, device: torch.device) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """PyTorch's own."""
    return partial(nn.Conv3d.forward, layer), x


def chosen(layer: nn.Conv3d, x: Tensor, device: torch.device) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """medkit's convolution: PyTorch's, except for small volumes on a CPU."""
    return layer, x


def converted(layer: nn.Conv3d, x: Tensor, device: torch.device) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Channels last, including the conversion to that layout and back."""
    layer.to(memory_format=LAST)
    return lambda v: nn.Conv3d.forward(layer, v.contiguous(memory_format=LAST)).contiguous(), x


def last(layer: nn.Conv3d, x: Tensor, device: torch.device) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Channels last before and after, as in the volume operator."""
    return partial(nn.Conv3d.forward, layer.to(memory_format=LAST)), x.contiguous(memory_format=LAST)


def slices(layer: nn.Conv3d, x: Tensor, device: torch.device) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Slices as the batch of one two-dimensional convolution over triples of them."""
    return lambda v: conv3d_as_2d(v, layer.weight, layer.bias), x


def compiled_last(layer: nn.Conv3d, x: Tensor, device: torch.device) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    run, x = last(layer, x, device)
    return compiled(run, device), x


def in_bf16(layer: nn.Conv3d, x: Tensor, device: torch.device) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    if not has_bf16(device):
        raise Unavailable("this device has no bfloat16")
    layer.to(torch.bfloat16, memory_format=LAST)
    return partial(nn.Conv3d.forward, layer), x.to(torch.bfloat16, memory_format=LAST)


def in_tf32(layer: nn.Conv3d, x: Tensor, device: torch.device) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    if not has_tf32(device):
        raise Unavailable("this device has no TF32")
    run, x = last(layer, x, device)

    def call(v: Tensor) -> Tensor:
        with tf32(True):
            return run(v)

    return call, x


def factorised(layer: nn.Conv3d, x: Tensor, device: torch.device) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """(2+1)D: within slices, then across them. This computes another function."""
    torch.manual_seed(0)
    pair = Factorised3d(layer.in_channels, layer.out_channels)
    return pair.to(device, x.dtype).to(memory_format=LAST), x.contiguous(memory_format=LAST)


Way = Callable[[nn.Conv3d, Tensor, torch.device], tuple[Callable[[Tensor], Tensor], Tensor]]
WAYS: dict[str, Way] = {
    "contiguous": contiguous,
    "medkit": chosen,
    "channels last, converted": converted,
    "channels last": last,
    "compiled": compiled_last,
    "slices as batch": slices,
    "(2+1)D": factorised,
    "bf16": in_bf16,
    "tf32": in_tf32,
}


def make(
    way: str, shape: Shape, outputs: int, training: bool, dtype: torch.dtype, device: torch.device
) -> Callable[[], Any]:
    layer, x = convolution(shape, outputs, dtype, device)
    weight = layer.weight
    run, x = WAYS[way](layer, x, device)
    if not training:

        def infer() -> Tensor:
            with torch.no_grad():
                return run(x)

        return infer

    def train() -> list[Tensor]:
        given = x.detach().requires_grad_()
        output = run(given)
        if way == "(2+1)D":
            return list(torch.autograd.grad(_mean_square(output), [given, *run.parameters()]))  # type: ignore[attr-defined]
        used = [given, weight if way != "bf16" else layer.weight]
        # The sum is in single precision at least; the backward pass of the convolution is what computes.
        with tf32(way == "tf32"):
            return [output.detach(), *torch.autograd.grad(_mean_square(output), used)]

    return train


def _mean_square(output: Tensor) -> Tensor:
    return (output.float() if output.dtype == torch.bfloat16 else output).square().mean()


def case(
    shape: Shape,
    outputs: int,
    training: bool,
    targets: tuple[Target, ...] = (),
    with_compiled: bool = False,
    dtype: torch.dtype = torch.float32,
    ways: tuple[str, ...] = tuple(WAYS),
    **options: Any,
) -> Case:
    c, d, h, w = shape
    name = f"{'forward and backward' if training else 'forward'} {c} to {outputs} channels {d}x{h}x{w}"
    name += " float64" * (dtype == torch.float64)
    voxels = d * h * w
    passes = 3 if training else 1
    truth = partial(make, "contiguous", shape, outputs, training, torch.float64)
    held: dict[str, Any] = {"tolerance": 1e-12} if dtype == torch.float64 else {"truth": truth}
    return Case(
        name,
        tuple(
            Variant(
                way,
                partial(make, way, shape, outputs, training, dtype),
                tolerance={"bf16": BF16, "tf32": 1e-2}.get(way),
                same=way != "(2+1)D",
                memory=way != "compiled",
                dtype={"bf16": "bfloat16", "tf32": "tf32"}.get(way),
            )
            for way in ways
            if with_compiled or way != "compiled"
        ),
        work=Work(
            passes * 54 * c * outputs * voxels,
            passes * dtype.itemsize * (c + outputs) * voxels,
            str(dtype).removeprefix("torch."),
        ),
        targets=targets,
        **held,
        **options,
    )


def cases() -> list[Case]:
    faster = (Target("channels last, converted", "speed", 1.15), Target("channels last", "speed", 1.15))
    no_slower = (Target("channels last, converted", "speed", 1.0),)
    return [
        case((4, 4, 8, 8), 4, False, quick=True),
        case((4, 4, 8, 8), 4, True, quick=True),
        # The end of the volume operator on slices of 256x256 has 16 channels; a quarter of it is shown with memory.
        case((16, 16, 128, 128), 16, False, faster, with_compiled=True, memory=True),
        case((16, 16, 128, 128), 16, True, no_slower, memory=True),
        case((64, 16, 32, 32), 64, False, with_compiled=True),
        case((16, 28, 256, 256), 1, False, faster, rounds=7),
        *(
            case((16, depth, 64, 64), 16, False, group="16 channels, 64x64, over depth", size=depth)
            for depth in (4, 8, 16, 32, 64)
        ),
        *(
            case((channels, 16, 64, 64), channels, False, group="16x64x64, over channels", size=channels)
            for channels in (8, 32, 64)
        ),
        *(
            case((16, 8, side, side), 16, False, group="16 channels, depth 8, over side", size=side)
            for side in (32, 128, 256)
        ),
        *(
            case((8, depth, 64, 64), 8, True, group="forward and backward, 8 channels, 64x64, over depth", size=depth)
            for depth in (4, 16, 32)
        ),
        *(
            case(
                (8, depth, 32, 32),
                8,
                False,
                dtype=torch.float64,
                ways=("contiguous", "medkit", "channels last, converted", "channels last", "slices as batch"),
                group="float64, 8 channels, 32x32, over depth",
                size=depth,
            )
            for depth in (4, 16, 32)
        ),
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_conv3d(case, versus) -> None:
    versus(case)
