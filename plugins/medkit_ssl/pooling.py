"""From a feature pyramid to one vector per image."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from medkit.api import InputError

Pool = Literal["mean", "max"]


class Pooled(nn.Module):
    """One level of a pyramid, pooled over its map: a list of (N,C_i,H_i,W_i), or (N,C_i,D_i,H_i,W_i), to (N,C).

    Parameters
    ----------
    channels:
        Of the pyramid, shallow to deep.
    level:
        Which level, counted as in a list: 0 is the shallowest, -1 the deepest.
    pool:
        Whether the mean or the maximum of each map is taken.
    """

    def __init__(self, channels: tuple[int, ...], level: int = -1, pool: Pool = "mean") -> None:
        super().__init__()
        if not -len(channels) <= level < len(channels):
            hint = f"0 to {len(channels) - 1}, or -1 for the deepest one"
            raise InputError(f"there is no level {level} in a pyramid of {len(channels)}", hint=hint)
        self.level, self.pool, self.width = level, pool, channels[level]

    def forward(self, features: list[Tensor]) -> Tensor:
        maps = features[self.level]
        space = tuple(range(2, maps.dim()))
        return maps.mean(space) if self.pool == "mean" else maps.amax(space)
