"""Restormer (Zamir et al. 2022), a transformer whose attention runs over channels."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

Count = Annotated[int, Field(gt=0)]


class Restormer(nn.Module):
    """Restormer: four levels of transformer blocks, down and up by pixel (un)shuffling (26,109,076 parameters).

    Shapes: (N,1,H,W) to (N,1,H,W), any H and W: sides that are not a multiple of 8 are mirrored to one and cropped
    back. The output is added to the input and not bounded. Attention compares channels over all pixels, so memory is
    proportional to the image's area, but statistics of a patch and of a whole slice differ: the thesis predicts in
    64x64 tiles.

    Parameters
    ----------
    dim:
        Channels of the first level, a multiple of every head count; each further level has twice as many.
    blocks:
        Transformer blocks of the four levels; the decoder repeats those of the first three.
    refinement:
        Blocks after the decoder.
    heads:
        Attention heads of the four levels.
    expansion:
        Hidden channels of the feed-forward network, as a multiple of its level's width.
    start:
        ``drawn``: all weights at random, as published; ``identity``: the last convolution starts at 0, so that the
        network first returns the image unchanged and learns only the correction (as in the last layer of residual
        branches: Goyal et al. 2017; Zhang et al. 2019, Fixup). For short trainings.
    """

    def __init__(
        self,
        dim: Count = 48,
        blocks: tuple[Count, Count, Count, Count] = (4, 6, 6, 8),
        refinement: Count = 4,
        heads: tuple[Count, Count, Count, Count] = (1, 2, 4, 8),
        expansion: Annotated[float, Field(gt=0)] = 2.66,
        start: Literal["drawn", "identity"] = "drawn",
    ) -> None:
        super().__init__()
        if dim % 2 or any(dim * 2**i % h for i, h in enumerate(heads)):
            raise ValueError(f"{dim} channels, doubled at each level, are not divided evenly by heads {list(heads)}")
        widths = [dim, 2 * dim, 4 * dim, 8 * dim]

        def level(width: int, number: int, head: int) -> nn.Sequential:
            return nn.Sequential(*(_Block(width, head, expansion) for _ in range(number)))

        self.embed = _conv(1, dim)
        self.encoder = nn.ModuleList(level(*settings) for settings in zip(widths, blocks, heads, strict=True))
        self.downs = nn.ModuleList(
            nn.Sequential(_conv(width, width // 2), nn.PixelUnshuffle(2)) for width in widths[:3]
        )
        # From deep to shallow: upsample, concatenate, narrow (not at the first level, which stays 2 dim wide), blocks.
        self.ups = nn.ModuleList(nn.Sequential(_conv(w, 2 * w), nn.PixelShuffle(2)) for w in reversed(widths[1:]))
        self.narrow = nn.ModuleList(nn.Conv2d(2 * w, w, 1, bias=False) for w in (widths[2], widths[1]))
        decoded = (widths[2], widths[1], 2 * dim)
        self.decoder = nn.ModuleList(level(w, blocks[2 - i], heads[2 - i]) for i, w in enumerate(decoded))
        self.refinement = level(2 * dim, refinement, heads[0])
        self.out = _conv(2 * dim, 1)
        if start == "identity":
            nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = _mirrored(x)
        h = self.embed(padded)
        skips = []
        for i, level in enumerate(self.encoder):
            h = level(h)
            if i < 3:
                skips.append(h)
                h = self.downs[i](h)
        for i, level in enumerate(self.decoder):
            h = torch.cat([self.ups[i](h), skips.pop()], dim=1)
            h = level(self.narrow[i](h) if i < 2 else h)
        return (self.out(self.refinement(h)) + padded)[..., :height, :width]


def _mirrored(x: Tensor) -> Tensor:
    """The image continued below and to the right to multiples of 8."""
    for axis in (-2, -1):
        side = x.shape[axis]
        if side % 8:
            # By index, since reflection padding requires the image to be larger than the padding.
            index = torch.arange(side + -side % 8, device=x.device) % (2 * side)
            x = x.index_select(axis, torch.where(index < side, index, 2 * side - 1 - index))
    return x


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.norm1, self.attention = _Norm(width), _ChannelAttention(width, heads)
        self.norm2, self.feed = _Norm(width), _GatedFeed(width, int(width * expansion))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed(self.norm2(x))


class _Norm(nn.Module):
    """Each pixel's channels divided by their standard deviation, without subtracting the mean; no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        variance = x.var(dim=1, keepdim=True, correction=0)
        return x * torch.rsqrt(variance + 1e-5) * self.weight[:, None, None]


class _ChannelAttention(nn.Module):
    """Attention between channels: queries and keys are normalised over pixels, each head has a temperature."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.point = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.depth = nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width, bias=False)
        self.out = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.depth(self.point(x)).unflatten(1, (3, self.heads, -1)).flatten(-2).unbind(1)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        weights = ((q @ k.transpose(-2, -1)) * self.temperature).softmax(dim=-1)
        return self.out((weights @ v).reshape_as(x))


class _GatedFeed(nn.Module):
    """Feed-forward network in which one half of the channels gates the other."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.point = nn.Conv2d(width, 2 * hidden, 1, bias=False)
        self.depth = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.out = nn.Conv2d(hidden, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.depth(self.point(x)).chunk(2, dim=1)
        return self.out(F.gelu(gate) * value)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
