"""WGAN-VGG (Yang et al. 2018): a plain convolutional generator against a Wasserstein critic."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.errors import InputError


class WGANVGG(nn.Module):
    """The generator of WGAN-VGG: bias-free 3x3 convolutions and a shortcut (92,480 parameters).

    Shapes: (N,1,H,W) in [0,1] to (N,1,H,W), at least 0, any H and W. The paper trains with Adam at 1e-5, betas 0.5 and
    0.9, four steps of the critic for each of the generator.

    Parameters
    ----------
    width:
        Channels of every layer.
    layers:
        3x3 convolutions; a 1x1 one follows.
    """

    def __init__(self, width: Annotated[int, Field(gt=0)] = 32, layers: Annotated[int, Field(gt=0)] = 11) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width if i else 1, width, 3, padding=1, bias=False) for i in range(layers))
        self.out = nn.Conv2d(width, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for conv in self.convs:
            h = F.relu(conv(h))
        return F.relu(self.out(h) + x)


class Critic(nn.Module):
    """The critic of WGAN-VGG and MAP-NN: six convolutions, two linear layers (17,923,521 parameters at 64x64).

    Shapes: (N,1,H,W) to ``cls`` (N,1), an unbounded score. H and W are ``size``, unless ``pool`` is given.

    Parameters
    ----------
    width:
        Channels of the first level; the other two have 2 and 4 times as many.
    hidden:
        Units between the two linear layers.
    size:
        Side of the images it is made for, a multiple of 8; the published critic takes 64x64 only.
    pool:
        Cells per side that the last map is averaged to, so that images of any size fit; null: not averaged. On 64x64
        images 8 gives the same numbers as null.
    """

    def __init__(
        self,
        width: Annotated[int, Field(gt=0)] = 64,
        hidden: Annotated[int, Field(gt=0)] = 1024,
        size: Annotated[int, Field(gt=0, multiple_of=8)] = 64,
        pool: Annotated[int, Field(gt=0)] | None = None,
    ) -> None:
        super().__init__()
        self.size, self.pool = size, pool
        widths = [1, width, width, 2 * width, 2 * width, 4 * width, 4 * width]
        self.convs = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 3, stride=1 + i % 2, padding=1) for i in range(6)
        )
        side = size // 8 if pool is None else pool
        self.hidden = nn.Linear(4 * width * side * side, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if self.pool is None and x.shape[-2:] != (self.size, self.size):
            raise InputError(
                f"the critic is made for images of {self.size}x{self.size}, not {x.shape[-2]}x{x.shape[-1]}",
                hint=f"set its 'size' to 'patch_size', or 'pool: {max(1, self.size // 8)}' for any size",
            )
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
        if self.pool is not None:
            x = F.adaptive_avg_pool2d(x, self.pool)
        return {"cls": self.out(F.leaky_relu(self.hidden(x.flatten(1)), 0.2))}

    def shared_parameters(self) -> Iterable[nn.Parameter]:
        """All parameters, since there is one task."""
        return self.parameters()
