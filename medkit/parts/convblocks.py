"""Convolutional building blocks shared by several decoders."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import torch.overrides
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _Gate(torch.autograd.Function):
    """``x * (a + b)`` for x (N,C,H,W), a (N,C,1,1), b (N,1,H,W), without keeping the sum of the gates.

    Autograd's own version writes three more maps of the size of x; this one is about four times as fast on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(x, a, b)
        return _scaled(x, a, b, torch.empty_like(x))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, a, b = ctx.saved_tensors
        product = torch.mul(gradient, x, out=torch.empty_like(x))
        to_a, to_b = product.sum((2, 3), keepdim=True).to(a.dtype), product.sum(1, keepdim=True).to(b.dtype)
        return _scaled(gradient, a, b, product), to_a, to_b


def _scaled(x: Tensor, a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """``x * (a + b)`` into ``out``, which has x's memory format: that of a + b alone would force copies."""
    return torch.add(a.to(out.dtype), b.to(out.dtype), out=out).mul_(x)


class SCSE(nn.Module):
    """Concurrent spatial and channel squeeze and excitation (Roy et al. 2018), the two added.

    Parameters
    ----------
    channels:
        In and out.
    reduction:
        Bottleneck of the channel gate.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.cSE = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid(),
        )
        self.sSE = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        # A sum, divided afterwards: the gradient of a mean would be written out at the size of x.
        pooled = x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])
        return _Gate.apply(x, self.cSE[1:](pooled), self.sSE(x))


class Conv3d(nn.Conv3d):
    """A 3x3x3 convolution with padding 1 that stays off PyTorch's slow path for one small volume on a CPU.

    PyTorch leaves its fast CPU kernels when batch 1 times channels, depth and height is at most 20480. There the three
    neighbouring slices become channels of one 2-D convolution: the same sum, about ten times as fast. (For larger
    volumes that would be slower.) Parameters and state dict are those of ``nn.Conv3d``.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        # An exported network takes volumes of any depth, and runs elsewhere.
        small = not torch.compiler.is_exporting() and x.shape[0] == 1 and x.shape[1] * x.shape[2] * x.shape[3] <= 20480
        if small and x.device.type == "cpu":
            return conv3d_as_2d(x, self.weight, self.bias)
        return super().forward(x)


def conv3d_as_2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 3x3x3 convolution with padding 1 of one volume (1,C,D,H,W), as a 2-D one over triples of slices."""
    if torch.overrides.has_torch_function_variadic(x, weight):
        # A single function to anything that watches PyTorch's functions, as F.conv3d is.
        return torch.overrides.handle_torch_function(conv3d_as_2d, (x, weight), x, weight, bias)  # type: ignore[no-any-return]
    depth = x.shape[2]
    slices = F.pad(x[0].transpose(0, 1), (0, 0, 0, 0, 0, 0, 1, 1))
    near = torch.cat([slices[z : z + depth] for z in range(3)], 1).contiguous(memory_format=torch.channels_last)
    return F.conv2d(near, weight.transpose(1, 2).flatten(1, 2), bias, padding=1).transpose(0, 1)[None]


def conv_relu(inputs: int, outputs: int, norm: bool) -> nn.Sequential:
    """3x3 convolution, batch norm (then without bias) or none (then with), ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=not norm)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU()) if norm else nn.Sequential(conv, nn.ReLU())


def attention(channels: int, on: bool) -> nn.Module:
    return SCSE(channels) if on else nn.Identity()


def fit(maps: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    """Maps (N,C,h,w) at ``size`` (H,W), interpolated if rounding in the pyramid left another size."""
    size = tuple(size[-2:])
    return maps if tuple(maps.shape[-2:]) == size else F.interpolate(maps, size, mode="bilinear", align_corners=False)


def initialise_decoder(module: nn.Module) -> None:
    """Kaiming-uniform convolutions, zero biases, unit norms, Xavier-uniform linear layers."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_uniform_(layer.weight, mode="fan_in", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
        elif isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.ones_(layer.weight)
        bias = getattr(layer, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)


def initialise_head(layer: nn.Conv2d | nn.Conv3d | nn.Linear) -> None:
    """Xavier-uniform weights, zero bias."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
