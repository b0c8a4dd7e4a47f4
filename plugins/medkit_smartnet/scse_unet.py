"""The SEG head: a U-Net decoder with SCSE attention."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medkit.api import Batch, Channels, InputError, Strides
from medkit.parts.convblocks import fit, initialise_head
from medkit.parts.decoders import UNetDecoder, UpBlock
from medkit.parts.losses import BCE, Dice

__all__ = ["ScseUNet", "UpBlock"]

Attention = Literal["all", "last", "none"]
Width = Annotated[int, Field(gt=0)]


class ScseUNet(nn.Module):
    """Segmentation (SEG): a U-Net decoder with SCSE at both ends of every block; Dice loss.

    Shapes: pyramid to (N,1,H,W) logits. 10,308,044 parameters on ResNet-50, 145 of them in the last
    layer. Source: thesis part B, 2.2.1, Fig. 10; the published code's default has SCSE in the last block only
    (``attention: last``).

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
