"""MAP-NN (Shan et al. 2019), the modularised adaptive network for low-dose CT."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.errors import InputError

LEAST = 9


class MAPNN(nn.Module):
    """MAP-NN: one small encoder-decoder applied repeatedly, denoising a little more each time.

    Shapes: (N,1,H,W) in [0,1] to the same, H and W at least 9. All ``depth`` passes share one module (62,016
    parameters), so a trained network can be run with fewer passes for a milder result.

    Parameters
    ----------
    depth:
        Passes through the shared module.
    width:
        Channels of every layer.
    """

    def __init__(self, depth: Annotated[int, Field(gt=0)] = 5, width: Annotated[int, Field(gt=0)] = 32) -> None:
        super().__init__()
        self.depth = depth
        self.module = CPCE(width)

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < LEAST:
            raise InputError(f"MAP-NN needs images of at least {LEAST} pixels per side, not {tuple(x.shape[-2:])}")
        for _ in range(self.depth):
            x = self.module(x)
        return x


class CPCE(nn.Module):
    """Conveying-path encoder-decoder: four unpadded bias-free convolutions, four transposed ones, three skips.

    Skips are concatenated before the activation, the encoder's map first; the result is added to the input and clipped
    to [0,1]. Weights are drawn by Xavier's uniform rule.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(nn.Conv2d(width if i else 1, width, 3, bias=False) for i in range(4))
        self.decoder = nn.ModuleList(nn.ConvTranspose2d(width, 1 if i == 3 else width, 3, bias=False) for i in range(4))
        self.points = nn.ModuleList(nn.Conv2d(2 * width, width, 1, bias=False) for _ in range(3))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        h = x
        for conv in self.encoder:
            h = conv(h)
            maps.append(h)
            h = F.relu(h)
        maps.pop()
        for up, point in zip(self.decoder, self.points, strict=False):
            h = F.relu(point(F.relu(torch.cat([maps.pop(), up(h)], dim=1))))
        return F.relu(self.decoder[-1](h) + x).clamp(max=1)
