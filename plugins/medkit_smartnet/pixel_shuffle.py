"""The REC head: an autoencoder's decoder by pixel shuffle, without skips."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.api import Batch, Channels, Strides
from medkit.parts.convblocks import attention, conv_relu, fit, initialise_decoder, initialise_head

Width = Annotated[int, Field(gt=0)]


class ShuffleBlock(nn.Module):
    """Pixel-shuffle upsampling that keeps the channels, then SCSE, two convolutions, SCSE."""

    def __init__(self, inputs: int, outputs: int, factor: int, norm: bool, scse: bool) -> None:
        super().__init__()
        self.upsample = (
            nn.Sequential(nn.Conv2d(inputs, inputs * factor**2, 1), nn.PixelShuffle(factor))
            if factor > 1
            else nn.Identity()
        )
        self.attention1 = attention(inputs, scse)
        self.conv1 = conv_relu(inputs, outputs, norm)
        self.conv2 = conv_relu(outputs, outputs, norm)
        self.attention2 = attention(outputs, scse)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention2(self.conv2(self.conv1(self.attention1(self.upsample(x)))))


class PixelShuffleDecoder(nn.Module):
    """Reconstruction (REC): pixel-shuffle blocks from the deepest feature map, no skips; mean absolute error.

    Shapes: pyramid to (N,C,H,W), linear. The target is the network's own (augmented) input. 23,580,696 parameters on
    ResNet-50, 145 of them in the last layer. Source: thesis part B, 2.2.1; published code of 2022 (no batch norm but in
    the last block).

    Parameters
    ----------
    widths:
        Channels after each block; the last is the block at full resolution.
    attention:
        Blocks that have SCSE.
    image_channels:
        Channels of the image.
    """

    def __init__(
        self,
        channels: Channels,
        strides: Strides,
        widths: tuple[Width, ...] = (256, 128, 64, 32, 16),
        attention: Literal["all", "last", "none"] = "all",
        image_channels: Annotated[int, Field(gt=0)] = 1,
    ) -> None:
        super().__init__()
        factors = [b // a for a, b in pairwise(strides)][::-1]
        ups = list(widths[:-1])[: len(factors)]
        ups += [ups[-1]] * (len(factors) - len(ups))
        inputs = [channels[-1], *ups[:-1]]
        self.blocks = nn.ModuleList(
            ShuffleBlock(i, o, f, norm=False, scse=attention == "all")
            for i, o, f in zip(inputs, ups, factors, strict=True)
        )
        last = ups[-1] if ups else channels[-1]
        self.last = ShuffleBlock(last, widths[-1], strides[0], norm=True, scse=attention != "none")
        self.head = nn.Conv2d(widths[-1], image_channels, 3, padding=1)
        initialise_decoder(self)
        initialise_head(self.head)

    def view(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return batch["image"], batch["image"]

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for block in self.blocks:
            x = block(x)
        return self.head(self.last(x))

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"l1": F.l1_loss(fit(output, target.shape), target)}

    def predict(self, output: Tensor) -> dict[str, Tensor]:
        return {"reconstruction": output.float()}
