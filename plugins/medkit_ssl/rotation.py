"""Rotation: tell by how many quarter turns an image was rotated."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medkit.api import Batch, Channels, InputError
from medkit.parts.convblocks import initialise_head
from medkit_ssl.pooling import Pool, Pooled

TURNS = 4


class Rotation(nn.Module):
    """Tell by how many quarter turns a slice was rotated (Gidaris, Singh & Komodakis 2018, eq. 2 and 3); cross-entropy.

    Shapes: pyramid to (M,4) logits of 0, 90, 180 and 270 degrees, counter-clockwise; M is 4N, or N with ``copies: 1``.
    All four turns of an image are in one batch, as published, so that a step costs four encoder passes. The images are
    square. What is always upright, such as a patient in a scanner, is easy: the network may learn only its outline.

    Parameters
    ----------
    copies:
        4: every image in all four turns; 1: in one of them, drawn at random, in a quarter of the time.
    level:
        Level of the pyramid that is classified, 0 for the shallowest, -1 for the deepest.
    pool:
        How a map becomes a number.
    """

    def __init__(self, channels: Channels, copies: Literal[1, 4] = 4, level: int = -1, pool: Pool = "mean") -> None:
        super().__init__()
        self.copies = copies
        self.pooled = Pooled(channels, level, pool)
        self.linear = nn.Linear(self.pooled.width, TURNS)
        initialise_head(self.linear)

    def view(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images: Tensor = batch["image"]
        height, width = images.shape[2:]
        if height != width:
            what = f"a quarter turn of an image of {height}x{width} has another shape"
            raise InputError(what, hint="prepare square images: 'resize' or 'pad_resize'")
        if self.copies == TURNS:
            turned = torch.cat([images.rot90(turn, (2, 3)) for turn in range(TURNS)])
            return turned, torch.arange(TURNS, device=images.device).repeat_interleave(len(images))
        turns = torch.randint(TURNS, (len(images),))
        turned = torch.stack([image.rot90(int(turn), (1, 2)) for image, turn in zip(images, turns, strict=True)])
        return turned, turns.to(images.device)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.linear(self.pooled(features))

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"cross_entropy": F.cross_entropy(output, target)}
