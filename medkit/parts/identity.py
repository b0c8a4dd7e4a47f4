"""The encoder for operators that work on the slices themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn


class Identity(nn.Module):
    """No encoder at all: a pyramid of one level, which is the slice itself, for operators that see raw volumes.

    Shapes: (N,C,H,W) to a list of that one tensor. There are no parameters and nothing to unfreeze.

    Parameters
    ----------
    in_channels:
        Channels of the slices.
    """

    def __init__(self, in_channels: Annotated[int, Field(gt=0)] = 1) -> None:
        super().__init__()
        self.channels, self.strides = (in_channels,), (1,)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x]

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        return []
