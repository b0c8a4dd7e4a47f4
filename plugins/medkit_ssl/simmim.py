"""SimMIM: reconstruct masked patches from an image whose masked pixels are a learned patch."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from medkit.api import Batch, Channels, InputError, Strides
from medkit_ssl.masks import split


class SimMIM(nn.Module):
    """Reconstruct the masked patches of a slice by one linear layer (Xie et al. 2022); mean absolute error there.

    Shapes: pyramid to (N,C,H',W'), the image up to whole strides. Loss (eq. 1 of the paper): the sum of |y - x| over
    masked pixels, divided by their number. Masking is at the input, so that any encoder works, convolutional ones too:
    masked patches show a learned patch of pixels, where the paper's transformers have a learned token in
    place of the embedded patch. A transformer embeds that patch like any other, so it is the same there up to its rank.
    The paper masks patches of 32 pixels out of 192; slices are often smaller, and so are the patches here. With an
    encoder of stride s, patches smaller than s leave no feature without a visible pixel.

    Parameters
    ----------
    ratio:
        Share of the patches that is masked.
    patch:
        Side of a masked patch in pixels.
    image_channels:
        Channels of the image.
    level:
        Level of the pyramid that is decoded, 0 for the shallowest, -1 for the deepest.
    """

    def __init__(
        self,
        channels: Channels,
        strides: Strides,
        ratio: Annotated[float, Field(gt=0, lt=1)] = 0.6,
        patch: Annotated[int, Field(gt=0)] = 16,
        image_channels: Annotated[int, Field(gt=0)] = 1,
        level: int = -1,
    ) -> None:
        super().__init__()
        if not -len(channels) <= level < len(channels):
            raise InputError(f"there is no level {level} in a pyramid of {len(channels)}")
        self.ratio, self.patch, self.level = ratio, patch, level
        self.token = nn.Parameter(torch.empty(image_channels, patch, patch))
        nn.init.trunc_normal_(self.token, std=0.02)
        stride = strides[level]
        self.decoder = nn.Sequential(nn.Conv2d(channels[level], image_channels * stride**2, 1), nn.PixelShuffle(stride))

    def view(self, batch: Batch) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        images: Tensor = batch["image"]
        size = images.shape[2:]
        rows, columns = (-(-side // self.patch) for side in size)
        _, masked = split(len(images), rows * columns, self.ratio)
        mask = torch.zeros(len(images), rows * columns, dtype=torch.bool).scatter_(1, masked, True)
        mask = mask.view(-1, 1, rows, columns).repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        mask = mask[:, :, : size[0], : size[1]].to(images.device)
        return (images, mask), (images, mask)

    def encode(self, encoder: nn.Module, inputs: tuple[Tensor, Tensor]) -> list[Tensor]:
        images, mask = inputs
        height, width = images.shape[2:]
        token = self.token.repeat(1, -(-height // self.patch), -(-width // self.patch))[:, :height, :width]
        return encoder(torch.where(mask, token.to(images.dtype), images))

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.decoder(features[self.level])

    def loss(self, output: Tensor, target: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images, mask = target
        height, width = images.shape[2:]
        distance = (output[:, :, :height, :width] - images).abs() * mask
        return {"l1": distance.sum() / (mask.sum() * images.shape[1])}
