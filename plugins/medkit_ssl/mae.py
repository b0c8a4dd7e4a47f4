"""MAE: the encoder sees only some patches; a small transformer reconstructs the others."""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from medkit.api import Batch, Given, InputError
from medkit_ssl.masks import split

EPSILON = 1e-6

Patch = Annotated[tuple[int, int] | None, Given("encoder.patch")]
PrefixTokens = Annotated[int | None, Given("encoder.prefix_tokens")]
EncoderWidth = Annotated[int | None, Given("encoder.width")]
Width = Annotated[int, Field(gt=0)]


class MAE(nn.Module):
    """Masked autoencoder (He et al. 2022): reconstruct patches that the encoder was not shown; mean square error there.

    Shapes: tokens (N,P+K,D) of K kept patches to (N,M,p*q*C), the pixels of M masked ones, channel by channel. Masked
    patches are dropped before the encoder, whose step costs about ``1 - ratio`` of a whole one; so it has to offer
    ``tokens(images, keep)``, as transformers do (``ssl:simmim`` is for any encoder). The decoder gets the kept tokens
    and a learned one in each masked place, all with fixed sines and cosines of their row and column (no position for
    prefix tokens), and is not used afterwards. With ``norm_pix`` each patch is reconstructed with mean 0 and variance 1
    (its own, with n - 1), as published. Images are padded with zeros at the bottom and on the right to whole patches.
    The paper's decoder has 8 blocks of width 512 and 16 heads, for photographs of 224 pixels; small one-channel slices
    get half of that here.

    Parameters
    ----------
    ratio:
        Share of the patches that is masked.
    norm_pix:
        Whether the pixels of each patch are normalised before they are compared.
    decoder_width:
        Width of the decoder's tokens; a multiple of 4 and of ``decoder_heads``.
    decoder_depth:
        Its blocks.
    decoder_heads:
        Heads of its attention.
    image_channels:
        Channels of the image.
    """

    def __init__(
        self,
        patch: Patch = None,
        prefix_tokens: PrefixTokens = None,
        width: EncoderWidth = None,
        ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75,
        norm_pix: bool = True,
        decoder_width: Width = 256,
        decoder_depth: Width = 4,
        decoder_heads: Width = 8,
        image_channels: Annotated[int, Field(gt=0)] = 1,
    ) -> None:
        super().__init__()
        if patch is None or prefix_tokens is None or width is None:
            what = "the encoder has no tokens that could be dropped"
            raise InputError(what, hint="take a vision transformer, or 'ssl:simmim', which masks the input")
        if decoder_width % decoder_heads or decoder_width % 4:
            what = f"a decoder's width of {decoder_width} is not a multiple of both 4 and its {decoder_heads} heads"
            raise InputError(what, hint="for example 256 and 8")
        self.patch, self.prefix_tokens = (int(patch[0]), int(patch[1])), prefix_tokens
        self.ratio, self.norm_pix = ratio, norm_pix
        self.embed = nn.Linear(width, decoder_width)
        self.token = nn.Parameter(torch.empty(decoder_width))
        self.blocks = nn.ModuleList(Block(decoder_width, decoder_heads, qkv_bias=True) for _ in range(decoder_depth))
        self.norm = nn.LayerNorm(decoder_width)
        self.pixels = nn.Linear(decoder_width, self.patch[0] * self.patch[1] * image_channels)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.token, std=0.02)

    def view(self, batch: Batch) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        images: Tensor = batch["image"]
        height, width = images.shape[2:]
        images = F.pad(images, (0, -width % self.patch[1], 0, -height % self.patch[0]))
        patches = patches_of(images, self.patch)
        keep, masked = (places.to(images.device) for places in split(*patches.shape[:2], self.ratio))
        hidden = patches.gather(1, masked[..., None].expand(-1, -1, patches.shape[2]))
        if self.norm_pix:
            variance, mean = torch.var_mean(hidden, 2, keepdim=True)
            hidden = (hidden - mean) / (variance + EPSILON).sqrt()
        return (images, keep, masked), hidden

    def encode(self, encoder: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        images, keep, masked = inputs
        rows, columns = (side // patch for side, patch in zip(images.shape[2:], self.patch, strict=True))
        tokens = encoder.tokens(images, keep)
        places = sines_and_cosines(rows, columns, self.token.numel()).to(tokens)
        return [tokens, keep, masked, places]

    def forward(self, features: list[Tensor]) -> Tensor:
        tokens, keep, masked, places = features
        x = self.embed(tokens)
        prefix, seen = x[:, : self.prefix_tokens], x[:, self.prefix_tokens :]
        x = self.token.to(x.dtype).expand(len(x), len(places), -1)
        x = x.scatter(1, keep[..., None].expand_as(seen), seen) + places
        x = torch.cat([prefix, x], 1)
        for block in self.blocks:
            x = block(x)
        x = x[:, self.prefix_tokens :].gather(1, masked[..., None].expand(-1, -1, x.shape[2]))
        return self.pixels(self.norm(x))

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"mse": F.mse_loss(output, target)}


def patches_of(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """(N,C,H,W) to (N,L,C*p*q), patch by patch in row order."""
    return F.unfold(images, patch, stride=patch).transpose(1, 2)


def sines_and_cosines(rows: int, columns: int, width: int) -> Tensor:
    """(rows*columns, width) fixed positions: one half of each vector encodes the row, the other the column.

    Each half has sines, then cosines, of the position times 10000 ** (-4 i / width) (Vaswani et al. 2017, along both
    axes).
    """
    frequency = 10000 ** (-torch.arange(width // 4, dtype=torch.float64) * 4 / width)
    halves = []
    for count in (rows, columns):
        angle = torch.arange(count, dtype=torch.float64)[:, None] * frequency
        halves.append(torch.cat([angle.sin(), angle.cos()], 1))
    row = halves[0][:, None].expand(-1, columns, -1)
    column = halves[1][None].expand(rows, -1, -1)
    return torch.cat([row, column], 2).flatten(0, 1).float()
