"""CTformer (Wang et al. 2023), a token-to-token transformer without convolutions."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.errors import InputError

Count = Annotated[int, Field(gt=0)]
WINDOW, STRIDE = 7, 2
SHIFT = 2


class CTformer(nn.Module):
    """CTformer: tokens of overlapping windows, mixed by linear and full attention, and folded back to the noise.

    Shapes: (N,1,size,size) to the same, not bounded; any other size is an :class:`InputError` that advises to predict
    in tiles. Tokens grow from windows in three steps; before the second and third, the grid of tokens is rolled by two
    cells. The way back mirrors the way in, with a shortcut at both sizes, and its result is subtracted from the input.

    1,382,413 trained parameters. The published class has 1,652,493 numbers. Of these, 65,064 belong to a classifier and
    a class token that its forward pass never uses, and are not built here; 205,016 fixed ones (random features and
    positions) are buffers. Weights are drawn as in vision transformers: N(0, 0.02), truncated at two.

    Parameters
    ----------
    size:
        Side of the images it takes; predict larger ones with the objective's ``tile`` of the same size.
    dim:
        Channels of the transformer's tokens.
    token:
        Channels of the tokens before the transformer.
    depth:
        Number of transformer blocks.
    heads:
        Attention heads per block.
    expansion:
        Hidden channels of a block's perceptron, as a multiple of ``dim``.
    dropout:
        Dropout probability of the linear attentions.
    start:
        ``drawn``: all weights at random; ``identity``: the last values and the last layer start at 0, so that the
        network first returns the image unchanged (as in Restormer). For short trainings.
    """

    positions: Tensor

    def __init__(
        self,
        size: Annotated[int, Field(ge=19)] = 64,
        dim: Annotated[int, Field(gt=0, multiple_of=2)] = 64,
        token: Count = 64,
        depth: Count = 1,
        heads: Count = 8,
        expansion: Annotated[float, Field(gt=0)] = 2.0,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        start: Literal["drawn", "identity"] = "drawn",
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{dim} channels are not divided evenly by {heads} heads")
        self.size = size
        self.outer = (size - WINDOW) // STRIDE + 1
        self.middle = self.outer - 4
        inner = self.middle - 2
        pixels, wide = WINDOW * WINDOW, 9 * token
        self.into1, self.into2 = _Performer(pixels, token, dropout), _Performer(wide, token, dropout)
        self.into = nn.Linear(wide, dim)
        self.register_buffer("positions", sinusoids(inner * inner, dim), persistent=False)
        self.blocks = nn.ModuleList(_Block(dim, heads, int(dim * expansion)) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.back = nn.Linear(dim, wide)
        self.back2, self.back1 = _Performer(token, wide, dropout), _Performer(token, pixels, dropout)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        if start == "identity":
            self.back1.silence()

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (self.size, self.size):
            raise InputError(
                f"this CTformer takes images of {self.size}x{self.size}, not {x.shape[-2]}x{x.shape[-1]}",
                hint=f"give the objective 'tile: {self.size}' to predict in tiles, and train with that 'patch_size'",
            )
        outer, middle = (self.outer, self.outer), (self.middle, self.middle)
        first = self.into1(F.unfold(x, WINDOW, stride=STRIDE).transpose(1, 2))
        second = self.into2(F.unfold(_rolled(first, outer), 3, dilation=2).transpose(1, 2))
        tokens = self.into(F.unfold(_rolled(second, middle), 3).transpose(1, 2)) + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.back(self.norm(tokens))
        tokens = self.back2(_unrolled(F.fold(tokens.transpose(1, 2), middle, 3)) + second)
        tokens = self.back1(_unrolled(F.fold(tokens.transpose(1, 2), outer, 3, dilation=2)) + first)
        return x - F.fold(tokens.transpose(1, 2), x.shape[-2:], WINDOW, stride=STRIDE)


def _rolled(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens (N,h*w,C) as a map (N,C,h,w), rolled down and right."""
    return tokens.transpose(1, 2).unflatten(2, grid).roll((SHIFT, SHIFT), (2, 3))


def _unrolled(grid: Tensor) -> Tensor:
    """The map rolled back, as tokens."""
    return grid.roll((-SHIFT, -SHIFT), (2, 3)).flatten(2).transpose(1, 2)


def sinusoids(number: int, dim: int) -> Tensor:
    """(1,number,dim) positions: sines in even channels and cosines in odd ones, of wavelengths up to 10000 tokens."""
    rates = torch.exp(-math.log(10000.0) * (torch.arange(dim) // 2 * 2).double() / dim)
    angles = torch.arange(number).double()[:, None] * rates
    angles[:, 0::2], angles[:, 1::2] = angles[:, 0::2].sin(), angles[:, 1::2].cos()
    return angles.float()[None]


class _Performer(nn.Module):
    """Linear attention through random features (Choromanski et al. 2021), then a perceptron: (N,T,dim) to (N,T,out).

    The values themselves are the shortcut, since the number of channels changes.
    """

    features: Tensor

    def __init__(self, dim: int, out: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.kqv = nn.LayerNorm(dim), nn.Linear(dim, 3 * out)
        self.proj, self.dropout = nn.Linear(out, out), nn.Dropout(dropout)
        self.norm2 = nn.LayerNorm(out)
        self.mlp = nn.Sequential(nn.Linear(out, out), nn.GELU(), nn.Linear(out, out))
        count = out // 2
        self.register_buffer("features", nn.init.orthogonal_(torch.empty(count, out)) * math.sqrt(count))

    @torch.no_grad()
    def silence(self) -> None:
        """Make the output 0: zero the values, and the perceptron's last layer for when the values have trained."""
        out = self.proj.out_features
        self.kqv.weight[2 * out :].zero_()
        last = self.mlp[-1]
        assert isinstance(last, nn.Linear)
        last.weight.zero_()

    def kernel(self, x: Tensor) -> Tensor:
        """Positive features whose inner products approximate the exponential of those of ``x``."""
        exponent = x @ self.features.t() - x.square().sum(-1, keepdim=True) / 2
        return exponent.exp() / math.sqrt(len(self.features))

    def forward(self, x: Tensor) -> Tensor:
        k, q, v = self.kqv(self.norm1(x)).chunk(3, dim=-1)
        k, q = self.kernel(k), self.kernel(q)
        total = q @ k.sum(1, keepdim=True).transpose(1, 2)
        attended = q @ (k.transpose(1, 2) @ v) / (total + 1e-8)
        y = v + self.dropout(self.proj(attended))
        return y + self.mlp(self.norm2(y))


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.proj = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))
