"""Shared convolutional blocks: faster forms that compute what the plain ones do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medkit.errors import InputError
from medkit.parts.convblocks import SCSE, Conv3d
from medkit.parts.encoders import TimmEncoder


def gradients(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    output = module(x)
    output.square().mean().backward()
    found = [output.detach(), x.grad, *(p.grad.clone() for p in module.parameters())]
    module.zero_grad()
    return found


@pytest.mark.parametrize(("batch", "channels", "depth"), [(1, 16, 5), (1, 3, 1), (2, 4, 3), (1, 64, 40)])
def test_a_small_3d_convolution_gives_pytorchs_values_and_gradients(batch: int, channels: int, depth: int) -> None:
    torch.manual_seed(0)
    mine, plain = Conv3d(channels, 6), nn.Conv3d(channels, 6, 3, padding=1)
    plain.load_state_dict(mine.state_dict())
    x = torch.randn(batch, channels, depth, 9, 7)
    for a, b in zip(gradients(mine, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)


class PlainSCSE(SCSE):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.cSE(x) + x * self.sSE(x)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_attention_gives_the_values_and_gradients_of_its_definition(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    mine, plain = SCSE(32), PlainSCSE(32)
    plain.load_state_dict(mine.state_dict())
    x = torch.randn(2, 32, 9, 7).contiguous(memory_format=layout)
    for a, b in zip(gradients(mine, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_attentions_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    block = SCSE(4, reduction=2).double()
    assert torch.autograd.gradcheck(block, torch.randn(2, 4, 3, 5, dtype=torch.float64, requires_grad=True))


def test_attention_under_autocast_keeps_the_type_of_its_input_and_trains() -> None:
    block, x = SCSE(16), torch.randn(2, 16, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        output = block(x)
    output.float().sum().backward()
    assert output.dtype == x.dtype
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())


def test_attention_keeps_the_memory_format_of_a_map() -> None:
    x = torch.randn(2, 16, 8, 8).contiguous(memory_format=torch.channels_last)
    assert SCSE(16)(x).is_contiguous(memory_format=torch.channels_last)


def test_an_encoder_cut_at_a_depth_has_the_shallow_levels_only() -> None:
    whole, cut = TimmEncoder("resnet18"), TimmEncoder("resnet18", depth=3)
    assert (cut.channels, cut.strides) == (whole.channels[:3], whole.strides[:3])
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in whole.parameters()) / 10
    assert len(cut(torch.randn(1, 1, 32, 32))) == 3


def test_a_depth_beyond_the_backbone_is_refused() -> None:
    with pytest.raises(InputError, match="fewer than 9 levels"):
        TimmEncoder("resnet18", depth=9)
