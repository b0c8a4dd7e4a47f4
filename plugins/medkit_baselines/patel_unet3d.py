"""Patel et al. 2019a: a 3-D U-Net that segments bleeds in whole volumes."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.api import Channels, Strides
from medkit.parts.convblocks import Conv3d
from medkit_baselines.volumes import each_volume, enlarge


class _Double(nn.Module):
    """Optional dropout, two convolutions with a batch norm between them, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout3d(dropout)
        self.conv1 = Conv3d(inputs, outputs)
        self.norm = nn.BatchNorm3d(outputs)
        self.conv2 = Conv3d(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv2(self.norm(self.conv1(self.dropout(x)))), 0.01)


def _block(inputs: int, middle: int, outputs: int, dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(_Double(inputs, middle, dropout), _Double(middle, outputs, dropout))


class PatelUNet3D(nn.Module):
    """The 3-D U-Net of Patel et al. (2019a), over raw slices: with the encoder ``medkit:identity``.

    Slices (B,D,C,H,W) to logits (B,D,H,W). Each volume goes through separately, padded with zeros to multiples of 8 in
    all directions and cropped back, so padding of the batch affects neither logits nor batch-norm statistics. Four
    levels, three poolings; the deepest level has dropout. Behind an encoder of stride s it works on the shallowest map
    and enlarges its logits s times.

    Parameters
    ----------
    width:
        Channels of the first convolution (published: 32); blocks put out 2, 4, 8 and 16 times as many.
    dropout:
        Probability of dropping whole channels in the deepest level.
    """

    task: ClassVar[str] = "segmentation"

    def __init__(
        self,
        channels: Channels,
        strides: Strides,
        width: Annotated[int, Field(gt=0)] = 32,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    ) -> None:
        super().__init__()
        w = width
        self.factor = strides[0]
        self.downs = nn.ModuleList(
            [_block(channels[0], w, 2 * w), _block(2 * w, 4 * w, 4 * w), _block(4 * w, 8 * w, 8 * w)]
        )
        self.deepest = _block(8 * w, 16 * w, 16 * w, dropout)
        self.ups = nn.ModuleList(
            [_block(24 * w, 8 * w, 8 * w), _block(12 * w, 4 * w, 4 * w), _block(6 * w, 2 * w, 2 * w)]
        )
        self.head = nn.Conv3d(2 * w, 1, 1)

    def slices(self, features: list[Tensor]) -> Tensor:
        return features[0]

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        return enlarge(each_volume(self._volume, features, lengths, multiple=8), self.factor)

    def _volume(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.downs:
            x = block(x)
            skips.append(x)
            x = F.max_pool3d(x, 2)
        x = self.deepest(x)
        for block in self.ups:
            x = block(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skips.pop()], 1))
        return self.head(x)
