"""The pieces of the FFT-Conv block alone: its pointwise spectral stage, and its transforms by FFT and by matrices."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from medkit_mtdgan.fft_conv_dft import forward_transform, inverse_transform
from medkit_mtdgan.fft_conv_lean import COLUMNS, inverse
from torch import Tensor

from medkit.bench import Case, Unavailable, Variant, Work

Shape = tuple[int, int, int, int]


def given(shape: Shape, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N,C,H,W), weight (2C,2C) and bias (2C,)."""
    made = torch.Generator().manual_seed(0)
    channels = shape[1]
    x = torch.randn(shape, generator=made)
    weight = torch.randn(2 * channels, 2 * channels, generator=made) / (2 * channels) ** 0.5
    return x.to(device), weight.to(device), torch.randn(2 * channels, generator=made).to(device)


def quietly(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def call() -> Tensor:
        with torch.no_grad():
            return function()

    return call


def composed(shape: Shape, device: torch.device) -> Callable[[], Tensor]:
    """Concatenate, convolve, rectify, split, make complex: as the block's definition reads."""
    x, weight, bias = given(shape, device)
    spectrum, kernel = torch.fft.rfft2(x, norm="ortho"), weight[:, :, None, None]

    def run() -> Tensor:
        mixed = F.relu(F.conv2d(torch.cat([spectrum.real, spectrum.imag], dim=1), kernel, bias))
        real, imaginary = mixed.chunk(2, dim=1)
        return torch.complex(real, imaginary)

    return quietly(run)


def product(shape: Shape, device: torch.device) -> Callable[[], Tensor]:
    """A matrix product in place of the convolution, rectified in place: the lean training form."""
    x, weight, bias = given(shape, device)
    spectrum = torch.fft.rfft2(x, norm="ortho")
    n, channels, height, frequencies = spectrum.shape

    def run() -> Tensor:
        stacked = torch.cat([spectrum.real, spectrum.imag], dim=1).view(n, 2 * channels, -1)
        mixed = torch.baddbmm(bias[None, :, None], weight.expand(n, -1, -1), stacked).relu_()
        real, imaginary = mixed.view(n, 2 * channels, height, frequencies).chunk(2, dim=1)
        return torch.complex(real, imaginary)

    return quietly(run)


def tiles(shape: Shape, device: torch.device) -> Callable[[], Tensor]:
    """Tile by tile within the cache: the inference form of a CPU."""
    x, weight, bias = given(shape, device)
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


def by_complex_numbers(shape: Shape, device: torch.device) -> Callable[[], Tensor]:
    """``A X + B conj(X)`` with complex A and B, which any real map of (Re, Im) is: twice the operations."""
    x, weight, bias = given(shape, device)
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


def kernel(shape: Shape, device: torch.device) -> Callable[[], Tensor]:
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        raise Unavailable("the Triton kernel needs a CUDA device and the package triton")
    from medkit_mtdgan.fft_conv_triton import mix

    x, weight, bias = given(shape, device)
    spectrum = torch.fft.rfft2(x, norm="ortho")
    return quietly(lambda: mix(spectrum, weight, bias))


def transforms(way: str, shape: Shape, device: torch.device) -> Callable[[], Tensor]:
    """To the half spectrum and back, without the product between."""
    x, _, _ = given(shape, device)
    height, width = shape[-2:]
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


def pointwise(shape: Shape, **options: object) -> Case:
    n, c, h, w = shape
    columns = n * h * (w // 2 + 1)
    return Case(
        f"pointwise stage {'x'.join(map(str, shape))}",
        tuple(Variant(name, partial(way, shape)) for name, way in WAYS.items()),
        tolerance=2e-5,
        work=Work(8 * columns * c * c, 16 * columns * c),
        **options,  # type: ignore[arg-type]
    )


def both_transforms(side: int, quick: bool = False) -> Case:
    n, c = 8, 32
    return Case(
        f"transforms there and back {n}x{c}x{side}x{side}",
        tuple(Variant(way, partial(transforms, way, (n, c, side, side))) for way in ("FFT", "matrices")),
        tolerance=1e-5,
        work=Work(0, 8 * n * c * side * side),
        group="transforms, over side",
        size=side,
        quick=quick,
    )


def cases() -> list[Case]:
    return [
        pointwise((1, 8, 16, 16), quick=True),
        pointwise((8, 96, 64, 64), memory=True),
        pointwise((8, 32, 64, 64)),
        pointwise((1, 96, 256, 256)),
        *(both_transforms(side, quick=side == 8) for side in (8, 16, 32, 64, 128)),
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_spectral(case, versus) -> None:
    versus(case)
