"""The FFT-Conv block's two forms against its definition."""

from __future__ import annotations

import pytest
import torch
from medkit_mtdgan.fft_conv import FFTConv, composed, inverse


@pytest.mark.parametrize("size", [(6, 6), (5, 7), (4, 5), (3, 1)])
def test_lean_gradients_pass_gradcheck_in_float64(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = FFTConv(2).double()
    x = torch.randn(2, 2, *size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, *_: block(v), (x, *block.parameters()))


@pytest.mark.parametrize("size", [(16, 16), (17, 15), (33, 40)])
def test_lean_gradients_equal_those_of_the_composition(size: tuple[int, int]) -> None:
    torch.manual_seed(1)
    block = FFTConv(6)
    x = torch.randn(3, 6, *size)
    gradients = []
    for form in (block, lambda v: composed(block, v)):
        block.zero_grad()
        v = x.clone().requires_grad_()
        form(v).square().mean().backward()
        gradients.append([v.grad, *(p.grad.clone() for p in block.parameters())])
    for lean, plain in zip(*gradients, strict=True):
        assert (lean - plain).norm() <= 1e-6 * plain.norm()


@pytest.mark.parametrize("size", [(64, 64), (65, 63), (130, 129), (1, 1)])
def test_inference_form_equals_the_composition(size: tuple[int, int]) -> None:
    torch.manual_seed(2)
    block = FFTConv(20)
    x = torch.randn(2, 20, *size)
    with torch.no_grad():
        torch.testing.assert_close(block(x), composed(block, x), rtol=1e-5, atol=2e-5)


def test_inference_form_leaves_its_input_alone() -> None:
    block = FFTConv(3)
    x = torch.randn(1, 3, 8, 9)
    before = x.clone()
    with torch.no_grad():
        block(x)
    assert torch.equal(x, before)


def test_frozen_block_still_passes_gradients_to_its_input() -> None:
    block = FFTConv(2).requires_grad_(False)
    x = torch.randn(1, 2, 6, 7, requires_grad=True)
    block(x).sum().backward()
    expected = torch.autograd.grad(composed(block, x).sum(), x)[0]
    torch.testing.assert_close(x.grad, expected)


def test_inverse_of_a_non_hermitian_spectrum_follows_its_definition() -> None:
    torch.manual_seed(3)
    height, width = 6, 7
    spectrum = torch.complex(torch.rand(height, width // 2 + 1), torch.rand(height, width // 2 + 1)).to(
        torch.complex128
    )
    columns = torch.zeros_like(spectrum)
    for row in range(height):
        for k in range(height):
            columns[row] += spectrum[k] * torch.exp(torch.tensor(2j * torch.pi * k * row / height)) / height**0.5
    expected = torch.zeros(height, width, dtype=torch.float64)
    for column in range(width):
        expected[:, column] = columns[:, 0].real
        for k in range(1, width // 2 + 1):
            phase = torch.exp(torch.tensor(2j * torch.pi * k * column / width))
            expected[:, column] += 2 * (columns[:, k] * phase).real
    torch.testing.assert_close(inverse(spectrum, height, width), expected / width**0.5, rtol=1e-6, atol=1e-6)
