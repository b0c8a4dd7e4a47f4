"""The FFT-Conv block's forms against its definition."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from medkit_mtdgan.fft_conv import FFTConv, choose, composed, inverse
from medkit_mtdgan.fft_conv_dft import forward_transform, inverse_transform
from medkit_mtdgan.generator import FFTGenerator

from medkit.errors import InputError


@pytest.mark.parametrize("size", [(6, 6), (5, 7), (4, 5), (3, 1)])
def test_lean_gradients_pass_gradcheck_in_float64(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = FFTConv(2, "lean").double()
    x = torch.randn(2, 2, *size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, *_: block(v), (x, *block.parameters()))


@pytest.mark.parametrize("size", [(16, 16), (17, 15), (33, 40)])
@pytest.mark.parametrize("form", ["lean", "dft"])
def test_gradients_of_a_form_equal_those_of_the_composition(form: str, size: tuple[int, int]) -> None:
    torch.manual_seed(1)
    block = FFTConv(6, form)
    x = torch.randn(3, 6, *size)
    gradients = []
    for form in (block, lambda v: composed(block, v)):
        block.zero_grad()
        v = x.clone().requires_grad_()
        form(v).square().mean().backward()
        gradients.append([v.grad, *(p.grad.clone() for p in block.parameters())])
    for found, plain in zip(*gradients, strict=True):
        assert (found - plain).norm() <= 1e-6 * plain.norm()


@pytest.mark.parametrize("size", [(64, 64), (65, 63), (130, 129), (1, 1)])
def test_inference_form_equals_the_composition(size: tuple[int, int]) -> None:
    torch.manual_seed(2)
    block = FFTConv(20, "lean")
    x = torch.randn(2, 20, *size)
    with torch.no_grad():
        torch.testing.assert_close(block(x), composed(block, x), rtol=1e-5, atol=2e-5)


def test_inference_form_leaves_its_input_alone() -> None:
    block = FFTConv(3, "lean")
    x = torch.randn(1, 3, 8, 9)
    before = x.clone()
    with torch.no_grad():
        block(x)
    assert torch.equal(x, before)


def test_frozen_block_still_passes_gradients_to_its_input() -> None:
    block = FFTConv(2, "lean").requires_grad_(False)
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


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (6, 5), (1, 1), (3, 1)])
def test_matrix_transforms_equal_fast_ones(size: tuple[int, int]) -> None:
    torch.manual_seed(4)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    spectrum = forward_transform(x)
    expected = torch.fft.rfft2(x, norm="ortho")
    torch.testing.assert_close(spectrum, torch.cat([expected.real, expected.imag], 1))
    bent = spectrum.relu()  # no longer Hermitian
    torch.testing.assert_close(
        inverse_transform(bent, size[1]), inverse(torch.complex(*bent.chunk(2, 1)), size[0], size[1])
    )


def test_a_cpu_composes_small_images_and_is_lean_with_large_ones() -> None:
    assert choose(torch.zeros(1, 4, 16, 16)) == "composed"
    assert choose(torch.zeros(1, 4, 64, 64)) == "lean"


def test_the_generator_computes_the_same_in_every_form() -> None:
    x = torch.rand(1, 1, 33, 35)
    outputs = []
    for form in ("auto", "composed", "lean", "dft"):
        torch.manual_seed(5)
        outputs.append(FFTGenerator(width=4, layers=2, form=form)(x))
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_triton_form_without_cuda_is_an_input_error() -> None:
    with pytest.raises(InputError, match="CUDA"):
        FFTGenerator(form="triton")


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize("sizes", ["2,5,9,7", "1,40,6,8", "2,2,1,1"])
def test_the_triton_kernel_and_its_backward_equal_the_composition_in_the_interpreter(sizes: str) -> None:
    script = Path(__file__).with_name("mtdgan_triton_script.py")
    done = subprocess.run(
        [sys.executable, str(script), sizes],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
