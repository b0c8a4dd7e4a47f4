"""The multi-task discriminator of MTD-GAN: one encoder, three tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

Task = Literal["cls", "seg", "rec"]
SLOPE = 0.2
LEVELS = (1, 2, 4, 8, 8, 8)


class MultiTaskDiscriminator(nn.Module):
    """Discriminator that classifies, segments and reconstructs from one shared encoder.

    Shapes: (N,1,H,W) with H and W multiples of 64 to ``cls`` (N,1), ``seg`` and ``rec`` (N,1,H,W), raw scores.
    68,432,027 parameters with base 64 and all tasks. Source: thesis part C, Fig. 16; published
    ``Multi_Task_Discriminator_Skip``, whose classifier fits 64x64 inputs only: here the bottleneck is averaged to
    one cell first, which changes nothing at 64x64.

    Parameters
    ----------
    base:
        Channels of the first level; the others have 2, 4, 8, 8 and 8 times as many.
    tasks:
        Any non-empty subset of ``cls``, ``seg`` and ``rec`` (rows of Table 10).
    pool:
        Cells per side that the bottleneck is averaged to before the classifier.
    dropout:
        Dropout probability in the classifier.
    """

    def __init__(
        self,
        base: Annotated[int, Field(gt=0)] = 64,
        tasks: tuple[Task, ...] = ("cls", "seg", "rec"),
        pool: Annotated[int, Field(gt=0)] = 1,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3,
    ) -> None:
        super().__init__()
        if not tasks or len(set(tasks)) != len(tasks):
            raise ValueError(f"there must be at least one task, and none twice, not {list(tasks)}")
        widths = [base * level for level in LEVELS]
        inputs = [1, *widths[:-1]]
        self.levels = nn.ModuleList(_pair(i, w) for i, w in zip(inputs, widths, strict=True))
        self.downs = nn.ModuleList(_sn(nn.Conv2d(w, w, 4, 2, 1)) for w in widths)
        deepest = widths[-1]
        self.bottleneck = nn.Sequential(
            _sn(nn.Conv2d(deepest, deepest, 1)), _act(), _sn(nn.Conv2d(deepest, deepest, 1)), _act()
        )
        heads: dict[str, nn.Module] = {}
        for task in tasks:
            if task == "cls":
                heads[task] = _Classifier(deepest * pool * pool, pool, dropout)
            else:
                heads[task] = _Decoder(widths, shuffle=task == "rec")
        self.heads = nn.ModuleDict(heads)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                _draw(layer)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if x.shape[-1] % 64 or x.shape[-2] % 64:
            raise ValueError(
                f"the discriminator halves its input six times: {tuple(x.shape[-2:])} is not a multiple of 64"
            )
        skips = []
        for level, down in zip(self.levels, self.downs, strict=True):
            x = level(x)
            skips.append(x)
            x = down(x)
        z = self.bottleneck(x)
        return {task: head(z, skips) for task, head in self.heads.items()}

    def shared_parameters(self) -> Iterable[nn.Parameter]:
        """Encoder and bottleneck, which all tasks train (28,609,920 parameters with base 64)."""
        for part in (self.levels, self.downs, self.bottleneck):
            yield from part.parameters()


class _Classifier(nn.Module):
    def __init__(self, features: int, pool: int, dropout: float) -> None:
        super().__init__()
        self.pool = pool
        self.hidden = _sn(nn.Linear(features, 512))
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(512, 1)

    def forward(self, z: Tensor, skips: list[Tensor]) -> Tensor:
        z = F.adaptive_avg_pool2d(z, self.pool).flatten(1)
        return self.out(self.dropout(F.leaky_relu(self.hidden(z), SLOPE)))


class _Decoder(nn.Module):
    """Six upsampling steps, bilinear or by pixel shuffle, each concatenated with the encoder level of its size."""

    def __init__(self, widths: list[int], shuffle: bool) -> None:
        super().__init__()
        ups, pairs = [], []
        for width, out in zip(reversed(widths), [*reversed(widths[:-1]), 1], strict=True):
            ups.append(
                nn.Sequential(nn.Conv2d(width, 4 * width, 1), nn.PixelShuffle(2))
                if shuffle
                else nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            )
            pairs.append(_pair(2 * width, out))
        self.ups, self.pairs = nn.ModuleList(ups), nn.ModuleList(pairs)
        self.out = nn.Conv2d(1, 1, 1)

    def forward(self, z: Tensor, skips: list[Tensor]) -> Tensor:
        for up, pair, skip in zip(self.ups, self.pairs, reversed(skips), strict=True):
            z = pair(torch.cat([up(z), skip], dim=1))
        return self.out(z)


def _act() -> nn.Module:
    return nn.LeakyReLU(SLOPE)


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    first, second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
    return nn.Sequential(_sn(first), _act(), _sn(second), _act())


def _sn(layer: nn.Module) -> nn.Module:
    return spectral_norm(layer, n_power_iterations=1, eps=1e-12)


def _draw(layer: nn.Conv2d | nn.Linear) -> None:
    """N(0, 0.01) weights, also under a spectral norm, and zero biases."""
    parametrized = getattr(layer, "parametrizations", None)
    weight = parametrized.weight.original if parametrized is not None else layer.weight
    nn.init.normal_(weight, 0.0, 0.01)
    nn.init.zeros_(layer.bias)
