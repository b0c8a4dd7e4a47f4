"""EDCNN (Liang et al. 2020), the edge-enhancing densely connected network for low-dose CT."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

SLOPE = 0.01


class EDCNN(nn.Module):
    """EDCNN: a layer of trainable Sobel filters and eight blocks that all see its edges (80,961 parameters).

    Shapes: (N,1,H,W) in [0,1] to (N,1,H,W), any H and W; leaky ReLU at the end, so hardly below 0. Each block is a 1x1
    and a 3x3 convolution. The input and its edges are concatenated to the input of every block, and the last block's
    map is added to the input. The paper trains with Adam at 1e-3 for 200 epochs on patches of 64. The published class
    counts the 288 numbers of its fixed Sobel patterns as parameters (81,249); here they are constants.

    Parameters
    ----------
    width:
        Channels of every block.
    edges:
        Number of Sobel filters, in four alternating directions.
    blocks:
        Number of blocks; the last makes the image.
    """

    def __init__(
        self,
        width: Annotated[int, Field(gt=0)] = 32,
        edges: Annotated[int, Field(gt=0)] = 32,
        blocks: Annotated[int, Field(gt=1)] = 8,
    ) -> None:
        super().__init__()
        self.sobel = TrainableSobel(edges)
        first = edges + 1
        self.points = nn.ModuleList(nn.Conv2d(first + width if i else first, width, 1) for i in range(blocks))
        self.convs = nn.ModuleList(
            nn.Conv2d(width, 1 if i == blocks - 1 else width, 3, padding=1) for i in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        first = torch.cat([x, self.sobel(x)], dim=1)
        h = first
        last = len(self.convs) - 1
        for i, (point, conv) in enumerate(zip(self.points, self.convs, strict=True)):
            h = conv(F.leaky_relu(point(h), SLOPE))
            if i < last:
                h = torch.cat([first, F.leaky_relu(h, SLOPE)], dim=1)
        return F.leaky_relu(x + h, SLOPE)


class TrainableSobel(nn.Module):
    """Sobel filters in four alternating directions, with trainable factors and biases: (N,1,H,W) to (N,edges,H,W)."""

    patterns: Tensor

    def __init__(self, edges: int) -> None:
        super().__init__()
        turns = torch.tensor(
            [
                [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
                [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
                [[-2, -1, 0], [-1, 0, 1], [0, 1, 2]],
                [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]],
            ],
            dtype=torch.float32,
        )
        self.register_buffer("patterns", turns[torch.arange(edges) % 4][:, None], persistent=False)
        self.factor = nn.Parameter(torch.ones(edges, 1, 1, 1))
        self.bias = nn.Parameter(torch.zeros(edges))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.patterns * self.factor, self.bias, padding=1)
