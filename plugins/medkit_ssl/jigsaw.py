"""Jigsaw: tell in which order the tiles of an image are."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.api import Batch, Channels, InputError
from medkit.parts.convblocks import initialise_head
from medkit_ssl.permutations import TILES, far_apart
from medkit_ssl.pooling import Pool, Pooled

SIDE = 3
FLAT = 1e-3  # smallest standard deviation that a tile is divided by: constant tiles are not noise to amplify

Width = Annotated[int, Field(gt=0)]


class Jigsaw(nn.Module):
    """Tell in which of P known orders the nine tiles of a slice are (Noroozi & Favaro 2016); cross-entropy.

    Shapes: pyramid of 9N tiles to (N,P) logits. The slice is cut into 3x3 cells; a tile is a square at a random place
    in its cell, so that edges do not continue from tile to tile, and has mean 0 and standard deviation 1 on its own, so
    that brightness does not give away neighbours. Each tile goes through the encoder alone; their features meet in two
    linear layers. The orders are as far from each other as can be (:func:`medkit_ssl.permutations.far_apart`).
    Published: 1000 orders, cells of 75 and tiles of 64 pixels, a hidden layer of 4096. For a few thousand small slices
    there are fewer orders and a narrower layer here; a tile has the same share of its cell.

    Parameters
    ----------
    permutations:
        Orders to tell apart.
    tile:
        Side of a tile as a share of its cell's.
    tile_width:
        Numbers that describe a tile before all nine meet.
    hidden:
        Width of the layer where they meet.
    level:
        Level of the pyramid that is taken, 0 for the shallowest, -1 for the deepest.
    pool:
        How a map becomes a number.
    """

    orders: Tensor

    def __init__(
        self,
        channels: Channels,
        permutations: Annotated[int, Field(gt=1, le=5000)] = 100,
        tile: Annotated[float, Field(gt=0, le=1)] = 64 / 75,
        tile_width: Width = 512,
        hidden: Width = 1024,
        level: int = -1,
        pool: Pool = "mean",
    ) -> None:
        super().__init__()
        self.tile = tile
        self.register_buffer("orders", torch.from_numpy(far_apart(permutations)))
        self.pooled = Pooled(channels, level, pool)
        self.each = nn.Linear(self.pooled.width, tile_width)
        self.together = nn.Linear(TILES * tile_width, hidden)
        self.linear = nn.Linear(hidden, permutations)
        for layer in (self.each, self.together, self.linear):
            initialise_head(layer)

    def view(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images: Tensor = batch["image"]
        chosen = torch.randint(len(self.orders), (len(images),)).to(images.device)
        tiles = normalised(self.tiles(images))
        order = self.orders.to(images.device)[chosen]
        shuffled = tiles.gather(1, order[:, :, None, None, None].expand_as(tiles))
        return shuffled.flatten(0, 1), chosen

    def tiles(self, images: Tensor) -> Tensor:
        """(N,C,H,W) to (N,9,C,t,t): a square at a random place of each cell, row by row."""
        cell = min(images.shape[2:]) // SIDE
        side = int(cell * self.tile)
        if side < 1:
            what = f"images of {images.shape[2]}x{images.shape[3]} cannot be cut into nine tiles"
            raise InputError(what, hint="use larger images, or a larger 'tile'")
        cells = [size // SIDE for size in images.shape[2:]]
        number = torch.arange(TILES)
        corners = []
        for size, start in zip(cells, (number // SIDE, number % SIDE), strict=True):
            corner = start * size + torch.randint(size - side + 1, (len(images), TILES))
            corners.append((corner[..., None] + torch.arange(side)).to(images.device))
        item = torch.arange(len(images), device=images.device)[:, None, None, None, None]
        channel = torch.arange(images.shape[1], device=images.device)[:, None, None]
        rows, columns = corners[0][:, :, None, :, None], corners[1][:, :, None, None, :]
        return images[item, channel, rows, columns]

    def forward(self, features: list[Tensor]) -> Tensor:
        each = torch.relu(self.each(self.pooled(features)))
        return self.linear(torch.relu(self.together(each.unflatten(0, (-1, TILES)).flatten(1))))

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"cross_entropy": F.cross_entropy(output, target)}


def normalised(tiles: Tensor) -> Tensor:
    """Each channel of each tile (...,h,w) with mean 0 and standard deviation 1; what is constant becomes 0."""
    deviation, mean = torch.std_mean(tiles, (-2, -1), keepdim=True, correction=0)
    return (tiles - mean) / deviation.clamp(min=FLAT)
