"""Parts on the device: PCGrad, the average of weights, the forms of the FFT-Conv block, batches in pinned memory."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from medkit_mtdgan.fft_conv import FFTConv
from torch import Tensor, nn

from medkit.engine.gradients import backward
from medkit.engine.runtime import Runtime
from medkit.objectives.adversarial import Average


def network() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"body": nn.Conv2d(1, 8, 3, padding=1), "one": nn.Conv2d(8, 1, 1), "two": nn.Conv2d(8, 1, 1)})


def surgery(device: torch.device, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Gradients by PCGrad of two losses that pull in opposite directions."""
    net = network().to(device, dtype)
    x = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(1)).to(device, dtype)
    features = torch.tanh(net["body"](x))
    losses = {"one": net["one"](features).mean(), "two": (1 - features).square().mean() - net["two"](features).mean()}
    made = torch.Generator().manual_seed(0)
    shared = list(net["body"].parameters())
    backward(losses, list(net.parameters()), Runtime(device), shared=shared, generator=made)
    return [p.grad.double().cpu() for p in net.parameters() if p.grad is not None]


def test_projected_gradients_are_those_of_double_precision(device: torch.device) -> None:
    for found, exact in zip(surgery(device), surgery(torch.device("cpu"), torch.float64), strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-6)


def test_the_average_of_weights_follows_on_the_device(device: torch.device) -> None:
    net = network().to(device)
    average, exact = Average(net, 0.9), [p.detach().double().cpu() for p in net.parameters()]
    for step in (1, 2, 3):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(step)
        average.follow(net)
        keep = min(0.9, (1 + step) / (10 + step))
        exact = [keep * mine + (1 - keep) * p.double().cpu() for mine, p in zip(exact, net.parameters(), strict=True)]
    assert {p.device.type for p in average.parameters()} == {device.type}
    for found, wanted in zip(average.module.parameters(), exact, strict=True):
        torch.testing.assert_close(found.double().cpu(), wanted, rtol=1e-5, atol=1e-6)


def block(form: str, shape: tuple[int, int, int, int], device: torch.device) -> list[Tensor]:
    """Output and gradients of a block; the ReLUs are kept away from zero by inputs that are their own gradient."""
    torch.manual_seed(0)
    made = FFTConv(shape[1], form).to(device)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(device).requires_grad_()
    output = made(x)
    return [output.detach(), *torch.autograd.grad(output.square().mean(), [x, *made.parameters()])]


@pytest.mark.parametrize("form", ["lean", "dft", "triton"])
@pytest.mark.parametrize("shape", [(2, 5, 9, 7), (1, 40, 6, 8), (2, 32, 33, 64)], ids=str)
def test_every_form_of_the_block_is_the_composition(
    form: str, shape: tuple[int, int, int, int], device: torch.device
) -> None:
    if form == "triton" and (device.type != "cuda" or importlib.util.find_spec("triton") is None):
        pytest.skip("the Triton form needs a CUDA device")
    for found, wanted in zip(block(form, shape, device), block("composed", shape, device), strict=True):
        error = float((found - wanted).norm() / wanted.norm())
        assert error < 1e-2, (
            error
        )  # a ReLU that rounds to the other side counts for that much; medkit bench tells them apart


def test_the_block_stays_in_single_precision_under_bf16(device: torch.device) -> None:
    made = FFTConv(4).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        assert made(torch.rand(1, 4, 16, 16, device=device)).dtype == torch.float32


def test_bf16_is_what_convolutions_compute_in(device: torch.device) -> None:
    with Runtime(device, "bf16").autocast():
        assert nn.Conv2d(1, 1, 3).to(device)(torch.rand(1, 1, 8, 8, device=device)).dtype == torch.bfloat16


def test_memory_on_the_device_is_measured(device: torch.device) -> None:
    from medkit.bench.memory import on_gpu

    if device.type != "cuda":
        pytest.skip("the allocator of a GPU is asked")
    assert on_gpu(lambda: torch.ones(1 << 20, device=device) + 1, device) >= 8 << 20
