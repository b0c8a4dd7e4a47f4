"""The SEG head: a U-Net decoder with SCSE attention."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.api import Batch, Channels, InputError, Strides
from medkit.parts.convblocks import attention, conv_relu, fit, initialise_decoder, initialise_head
from medkit.parts.losses import BCE, Dice

Attention = Literal["all", "last", "none"]
Width = Annotated[int, Field(gt=0)]


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
    """The decoder without its head: pyramid to (N,widths[-1],H,W) at the resolution of the encoder's input.

    Table of the published blocks for ResNet-50 with a stride-1 stem: 2048+1024 to 256, 256+512 to 128, 128+256 to 64,
    64+64 to 32, and a last block 32 to 16 without skip. An encoder that begins at stride 2 or 4 is brought back to
    full resolution in the last block.
    """

    def __init__(self, channels: Channels, strides: Strides, widths: tuple[int, ...], where: Attention) -> None:
        super().__init__()
        levels = len(channels)
        if len(widths) < 2:
            raise InputError("a decoder needs at least two widths")
        ups = [*widths[:-1]][: levels - 1]
        ups += [ups[-1]] * (levels - 1 - len(ups))
        inputs = [channels[-1], *ups[:-1]]
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


class ScseUNet(nn.Module):
    """Segmentation (SEG): a U-Net decoder with SCSE at both ends of every block; Dice loss.

    Shapes: pyramid to (N,1,H,W) logits. 10,307,899 parameters on ResNet-50. Source: thesis part B, 2.2.1, Fig. 10;
    the published code's default has SCSE in the last block only (``attention: last``).

    Parameters
    ----------
    widths:
        Channels after each block; the last is the block at full resolution.
    attention:
        Blocks that have SCSE.
    objective:
        ``dice`` (thesis) or ``dice_bce`` (published code).
    """

    def __init__(
        self,
        channels: Channels,
        strides: Strides,
        widths: tuple[Width, ...] = (256, 128, 64, 32, 16),
        attention: Attention = "all",
        objective: Literal["dice", "dice_bce"] = "dice",
    ) -> None:
        super().__init__()
        self.decoder = UNetDecoder(channels, strides, tuple(widths), attention)
        self.head = nn.Conv2d(self.decoder.width, 1, 3, padding=1)
        initialise_head(self.head)
        self.dice, self.bce = Dice(), BCE()
        self.objective = objective

    def view(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if "mask" not in batch:
            raise InputError("segmentation needs masks, and these data have none")
        return batch["image"], batch["mask"]

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.head(self.decoder(features))

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        output = fit(output, target.shape)
        terms = {"dice": self.dice(output, target)}
        if self.objective == "dice_bce":
            terms["bce"] = self.bce(output, target)
        return terms

    def predict(self, output: Tensor) -> dict[str, Tensor]:
        return {"mask_probability": torch.sigmoid(output.float())}
