"""Decoders over an encoder's pyramid, shared by several heads and operators."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.parts.convblocks import attention, conv_relu, initialise_decoder

Attention = Literal["all", "last", "none"]


class UpBlock(nn.Module):
    """Nearest upsampling to the skip's size, concatenation, then SCSE, two convolutions, SCSE."""

    def __init__(self, inputs: int, skip: int, outputs: int, scse: bool, factor: int = 1) -> None:
        super().__init__()
        self.factor = factor
        self.attention1 = attention(inputs + skip, scse)
        self.conv1 = conv_relu(inputs + skip, outputs, norm=True)
        self.conv2 = conv_relu(outputs, outputs, norm=True)
        self.attention2 = attention(outputs, scse)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        if skip is not None:
            x = torch.cat([F.interpolate(x, skip.shape[-2:], mode="nearest"), skip], 1)
        elif self.factor > 1:
            x = F.interpolate(x, scale_factor=self.factor, mode="nearest")
        return self.attention2(self.conv2(self.conv1(self.attention1(x))))


class UNetDecoder(nn.Module):
    """A U-Net's decoder without its head: pyramid to (N,widths[-1],H,W) at the resolution of the encoder's input.

    Blocks for ResNet-50 with a stride-1 stem, as published for SMART-Net: 2048+1024 to 256, 256+512 to 128, 128+256 to
    64, 64+64 to 32, and a last block 32 to 16 without skip. An encoder that begins at stride 2 or 4 is brought back to
    full resolution in the last block.

    Parameters
    ----------
    channels, strides:
        Of the encoder's pyramid.
    widths:
        Channels after each block; the last is the block at full resolution. Further levels repeat the second-last one.
    where:
        Blocks that have SCSE.
    """

    def __init__(
        self, channels: tuple[int, ...], strides: tuple[int, ...], widths: tuple[int, ...], where: Attention = "none"
    ) -> None:
        super().__init__()
        levels = len(channels)
        if len(widths) < 2:
            raise InputError("a decoder needs at least two widths")
        ups = [*widths[:-1]][: levels - 1]
        ups += [widths[-2]] * (levels - 1 - len(ups))
        inputs = [channels[-1], *ups][: levels - 1]
        skips = list(reversed(channels[:-1]))
        self.blocks = nn.ModuleList(
            UpBlock(i, s, o, where == "all") for i, s, o in zip(inputs, skips, ups, strict=True)
        )
        self.last = UpBlock(ups[-1] if ups else channels[-1], 0, widths[-1], where != "none", factor=strides[0])
        self.width = widths[-1]
        initialise_decoder(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for block, skip in zip(self.blocks, reversed(features[:-1]), strict=True):
            x = block(x, skip)
        return self.last(x)
