"""The pieces of the FFT-Conv block by themselves: its pointwise spectral stage, and its transforms by FFT and by matrices."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from medkit_mtdgan.fft_conv_dft import forward_transform, inverse_transform
from medkit_mtdgan.fft_conv_lean import COLUMNS, inverse
from torch import Tensor

from medkit.bench import Case, Unavailable, Variant, Work

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Kind:
    """Shape (N,C,H,W), type and layout of the images."""

    shape: Shape
    dtype: torch.dtype = torch.float32
    layout: torch.memory_format = torch.contiguous_format

    def __str__(self) -> str:
        words = ["x".join(map(str, self.shape))]
        words += ["float64"] * (self.dtype == torch.float64) + ["channels last"] * (self.layout == torch.channels_last)
        return " ".join(words)


def given(kind: Kind, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Images, weight (2C,2C) and bias (2C,)."""
    made = torch.Generator().manual_seed(0)
    channels = kind.shape[1]
    x = torch.randn(kind.shape, generator=made)
    weight = torch.randn(2 * channels, 2 * channels, generator=made) / (2 * channels) ** 0.5
    bias = torch.randn(2 * channels, generator=made)
    x, weight, bias = (tensor.to(device, kind.dtype) for tensor in (x, weight, bias))
    return x.contiguous(memory_format=kind.layout), weight, bias


def quietly(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def call() -> Tensor:
        with torch.no_grad():
            return function()

    return call


def composed(kind: Kind, device: torch.device) -> Callable[[], Tensor]:
    """Concatenate, convolve, rectify, split, make complex, as in the block's definition."""
    x, weight, bias = given(kind, device)
    spectrum, kernel = torch.fft.rfft2(x, norm="ortho"), weight[:, :, None, None]

    def run() -> Tensor:
        mixed = F.relu(F.conv2d(torch.cat([spectrum.real, spectrum.imag], dim=1), kernel, bias))
        real, imaginary = mixed.chunk(2, dim=1)
        return torch.complex(real, imaginary)

    return quietly(run)


def product(kind: Kind, device: torch.device) -> Callable[[], Tensor]:
    """A matrix product instead of the convolution, rectified in place: the lean training form."""
    x, weight, bias = given(kind, device)
    spectrum = torch.fft.rfft2(x, norm="ortho")
    n, channels, height, frequencies = spectrum.shape

    def run() -> Tensor:
        stacked = torch.cat([spectrum.real, spectrum.imag], dim=1).view(n, 2 * channels, -1)
        mixed = torch.baddbmm(bias[None, :, None], weight.expand(n, -1, -1), stacked).relu_()
        real, imaginary = mixed.view(n, 2 * channels, height, frequencies).chunk(2, dim=1)
        return torch.complex(real, imaginary)

    return quietly(run)


def tiles(kind: Kind, device: torch.device) -> Callable[[], Tensor]:
    """Tile by tile within the cache: the inference form of a CPU."""
    x, weight, bias = given(kind, device)
    spectrum = torch.fft.rfft2(x, norm="ortho")
    n, channels, height, frequencies = spectrum.shape
    columns = height * frequencies

    def run() -> Tensor:
        result = torch.empty_like(spectrum)
        source, target = (torch.view_as_real(s).view(n, channels, columns, 2) for s in (spectrum, result))
        for i in range(n):
            for p in range(0, columns, COLUMNS):
                tile = source[i, :, p : p + COLUMNS]
                stacked = torch.cat([tile[..., 0], tile[..., 1]])
                mixed = torch.addmm(bias[:, None], weight, stacked).relu_()
                target[i, :, p : p + COLUMNS, 0] = mixed[:channels]
                target[i, :, p : p + COLUMNS, 1] = mixed[channels:]
        return result

    return quietly(run)


def by_complex_numbers(kind: Kind, device: torch.device) -> Callable[[], Tensor]:
    """``A X + B conj(X)`` with complex A and B, which any real map of (Re, Im) is: twice the operations."""
    x, weight, bias = given(kind, device)
    spectrum = torch.fft.rfft2(x, norm="ortho")
    n, channels = spectrum.shape[:2]
    (rr, ri), (ir, ii) = (half.chunk(2, dim=1) for half in weight.chunk(2))
    one = torch.complex(rr + ii, ir - ri) / 2
    other = torch.complex(rr - ii, ir + ri) / 2
    shift = torch.complex(*bias.chunk(2))[None, :, None]

    def run() -> Tensor:
        flat = spectrum.reshape(n, channels, -1)
        mixed = torch.view_as_real(one @ flat + other @ flat.conj().resolve_conj() + shift).relu_()
        return torch.view_as_complex(mixed).view_as(spectrum)

    return quietly(run)


def kernel(kind: Kind, device: torch.device) -> Callable[[], Tensor]:
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        raise Unavailable("the Triton kernel needs a CUDA device and the package triton")
    if kind.dtype != torch.float32:
        raise Unavailable("the Triton kernel computes in single precision")
    from medkit_mtdgan.fft_conv_triton import mix

    x, weight, bias = given(kind, device)
    spectrum = torch.fft.rfft2(x, norm="ortho")
    return quietly(lambda: mix(spectrum, weight, bias))


def transforms(way: str, kind: Kind, device: torch.device) -> Callable[[], Tensor]:
    """To the half spectrum and back, without the product between."""
    x, _, _ = given(kind, device)
    height, width = kind.shape[-2:]
    if way == "matrices":
        return quietly(lambda: inverse_transform(forward_transform(x), width))
    return quietly(lambda: inverse(torch.fft.rfft2(x, norm="ortho"), height, width))


WAYS = {
    "composed": composed,
    "batched product": product,
    "tiles": tiles,
    "complex product": by_complex_numbers,
    "triton": kernel,
}


def held(way: Callable[[Kind, torch.device], Callable[[], Tensor]], kind: Kind) -> dict[str, Any]:
    """The reference result for the variants: ``way`` in double precision."""
    if kind.dtype == torch.float64:
        return {"tolerance": 1e-12}
    return {"truth": partial(way, replace(kind, dtype=torch.float64))}


def pointwise(kind: Kind, **options: Any) -> Case:
    n, c, h, w = kind.shape
    columns = n * h * (w // 2 + 1)
    return Case(
        f"pointwise stage {kind}",
        tuple(Variant(name, partial(way, kind)) for name, way in WAYS.items()),
        **held(composed, kind),
        work=Work(8 * columns * c * c, 4 * columns * c * kind.dtype.itemsize, str(kind.dtype).removeprefix("torch.")),
        **options,
    )


def both_transforms(kind: Kind, **options: Any) -> Case:
    n, c, h, w = kind.shape
    return Case(
        f"transforms there and back {kind}",
        tuple(Variant(way, partial(transforms, way, kind)) for way in ("FFT", "matrices")),
        **held(partial(transforms, "FFT"), kind),
        work=Work(0, 2 * n * c * h * w * kind.dtype.itemsize, str(kind.dtype).removeprefix("torch.")),
        **options,
    )


def sweep(make: Callable[..., Case], name: str, kinds: dict[int, Kind], quick: int = 0) -> list[Case]:
    """Cases that form one curve, over the keys of ``kinds``; one of them may be quick."""
    return [make(kind, group=name, size=size, quick=size == quick) for size, kind in kinds.items()]


def cases() -> list[Case]:
    double, last = {"dtype": torch.float64}, {"layout": torch.channels_last}
    sides = (16, 32, 64, 128)
    return [
        pointwise(Kind((1, 8, 16, 16)), quick=True),
        pointwise(Kind((8, 96, 64, 64)), memory=True),
        pointwise(Kind((8, 32, 64, 64))),
        pointwise(Kind((1, 96, 256, 256))),
        *sweep(pointwise, "pointwise stage, 64x64, over channels", {c: Kind((2, c, 64, 64)) for c in (8, 32, 96, 128)}),
        *sweep(pointwise, "pointwise stage, 32 channels, over side", {s: Kind((2, 32, s, s)) for s in (16, 128, 256)}),
        *sweep(
            pointwise,
            "pointwise stage, 32 channels, height 64, over width",
            {w: Kind((2, 32, 64, w)) for w in (33, 320)},
        ),
        *sweep(
            pointwise,
            "pointwise stage, float64, 32 channels, over side",
            {s: Kind((2, 32, s, s), **double) for s in (16, 64, 128)},
        ),
        *sweep(both_transforms, "transforms, over side", {s: Kind((8, 32, s, s)) for s in (8, *sides)}, quick=8),
        *sweep(both_transforms, "transforms, height 64, over width", {w: Kind((8, 32, 64, w)) for w in (33, 100, 320)}),
        *sweep(both_transforms, "transforms, 64x64, over channels", {c: Kind((2, c, 64, 64)) for c in (8, 32, 96)}),
        *sweep(both_transforms, "transforms, float64, over side", {s: Kind((2, 32, s, s), **double) for s in sides}),
        *sweep(
            both_transforms, "transforms, channels last, over side", {s: Kind((2, 32, s, s), **last) for s in sides}
        ),
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_spectral(case, versus) -> None:
    versus(case)
