"""RED-CNN (Chen et al. 2017), the residual encoder-decoder for low-dose CT."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.errors import InputError


class REDCNN(nn.Module):
    """RED-CNN: five unpadded convolutions, five transposed ones, three shortcuts (1,848,865 parameters).

    Shapes: (N,1,H,W) in [0,1] to (N,1,H,W), at least 0; H and W at least 21 with the default kernel. The paper trains
    with Adam, 1e-4 falling to 1e-5, mean square error and 55x55 patches.

    Parameters
    ----------
    width:
        Channels of every layer.
    kernel:
        Kernel size.
    """

    def __init__(self, width: Annotated[int, Field(gt=0)] = 96, kernel: Annotated[int, Field(gt=0)] = 5) -> None:
        super().__init__()
        self.least = 5 * (kernel - 1) + 1
        self.convs = nn.ModuleList(nn.Conv2d(width if i else 1, width, kernel) for i in range(5))
        self.tconvs = nn.ModuleList(nn.ConvTranspose2d(width, 1 if i == 4 else width, kernel) for i in range(5))

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < self.least:
            raise InputError(
                f"RED-CNN needs images of at least {self.least} pixels per side, not {tuple(x.shape[-2:])}"
            )
        kept = [x]
        h = x
        for i, conv in enumerate(self.convs):
            h = F.relu(conv(h))
            if i in (1, 3):
                kept.append(h)
        for i, tconv in enumerate(self.tconvs):
            h = tconv(h)
            if i % 2 == 0:
                h = h + kept.pop()
            h = F.relu(h)
        return h
