"""Convolutional building blocks that several decoders share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        # One pass over x: x*a + x*b = x*(a + b).
        return x * (self.cSE(x) + self.sSE(x))


def conv_relu(inputs: int, outputs: int, norm: bool) -> nn.Sequential:
    """3x3 convolution, batch norm (then without bias) or none (then with), ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=not norm)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU()) if norm else nn.Sequential(conv, nn.ReLU())


def attention(channels: int, on: bool) -> nn.Module:
    return SCSE(channels) if on else nn.Identity()


def fit(maps: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    """Maps (N,C,h,w) at ``size`` (H,W), interpolated where rounding in the pyramid left another size."""
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
