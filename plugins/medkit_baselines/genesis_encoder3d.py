"""The encoder half of Models Genesis' 3-D U-Net, as an encoder of volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.parts.encoder_volumes import check_volumes, load_published
from medkit_baselines.genesis_unet3d import Down

LEVELS = ("down_tr64", "down_tr128", "down_tr256", "down_tr512")
"""Published names of the levels, by the size of their cubes' sides."""


class _Net(nn.Module):
    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        inputs = in_channels
        for i, name in enumerate(LEVELS):
            setattr(self, name, Down(inputs, width << i, 2 * width << i))
            inputs = 2 * width << i

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [getattr(self, LEVELS[0])(x)]
        for name in LEVELS[1:]:
            maps.append(getattr(self, name)(F.max_pool3d(maps[-1], 2, ceil_mode=True)))
        return maps


class GenesisEncoder3D(nn.Module):
    """The encoder half of Models Genesis' 3-D U-Net (Zhou et al. 2021): an encoder of volumes.

    Shapes: (N,C,D,H,W) to four maps of 2, 4, 8 and 16 times ``width`` channels at strides 1, 2, 4 and 8, sizes rounded
    up. Batch norm uses the statistics of the current batch in prediction too, as published.

    Parameters
    ----------
    in_channels:
        Channels of the volumes.
    width:
        Channels of the first convolution (published: 32).
    weights:
        null: random; else a safetensors file of this network, with the published names (docs/volumes.md).
    prefix:
        What precedes this network's names in the ``weights`` file; null: found, with a message.
    """

    dimensions: ClassVar[int] = 3

    def __init__(
        self,
        in_channels: Annotated[int, Field(gt=0)] = 1,
        width: Annotated[int, Field(gt=0)] = 32,
        weights: Path | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__()
        self.channels = (2 * width, 4 * width, 8 * width, 16 * width)
        self.strides = ((1, 1, 1), (2, 2, 2), (4, 4, 4), (8, 8, 8))
        self.net = _Net(in_channels, width)
        if weights is not None:
            load_published(self.net, Path(weights), prefix)

    def forward(self, x: Tensor) -> list[Tensor]:
        check_volumes(x)
        return self.net(x)

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        return [(name, getattr(self.net, name)) for name in LEVELS]
