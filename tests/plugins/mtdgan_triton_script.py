"""Compare the Triton form with the composition; runs with TRITON_INTERPRET=1, which has to be set before the import."""

from __future__ import annotations

import sys

import torch
from medkit_mtdgan.fft_conv import FFTConv, composed
from medkit_mtdgan.fft_conv_triton import fused
from torch import Tensor


def main() -> None:
    n, channels, height, width = map(int, sys.argv[1].split(","))
    torch.manual_seed(0)
    block = FFTConv(channels)
    x = torch.randn(n, channels, height, width)
    parameters = (block.img_conv.weight, block.img_conv.bias, block.fft_conv.weight, block.fft_conv.bias)

    def results(form: str) -> list[Tensor]:
        block.zero_grad()
        given = x.clone().requires_grad_()
        output = composed(block, given) if form == "composed" else fused(given, *parameters, training=True)
        output.square().mean().backward()
        return [output.detach(), given.grad, *(p.grad.clone() for p in parameters)]

    expected = results("composed")
    for found, plain in zip(results("triton"), expected, strict=True):
        torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(fused(x, *parameters, training=False), expected[0], rtol=1e-5, atol=1e-6)
    block.requires_grad_(False)
    given = x.clone().requires_grad_()
    fused(given, *parameters, training=True).square().mean().backward()
    torch.testing.assert_close(given.grad, expected[1], rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
    main()
