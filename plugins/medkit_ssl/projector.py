"""From a feature pyramid to the rows that joint-embedding losses compare."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from pydantic import Field
from torch import nn

from medkit_ssl.pooling import Pool, Pooled

Width = Annotated[int, Field(gt=0)]


class Projector(nn.Sequential):
    """A pooled level of the pyramid, then a perceptron: a list of maps to rows (n,D).

    Parameters
    ----------
    channels, level, pool:
        As for :class:`medkit_ssl.pooling.Pooled`.
    widths:
        Of the perceptron's layers, null for that of the pooled features; the last is D.
    norm:
        Whether there is batch norm, over each rank's own rows, before each ReLU.
    last_norm:
        Whether the output has batch norm too, without scale and shift.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        widths: tuple[int | None, ...],
        level: int = -1,
        pool: Pool = "mean",
        norm: bool = True,
        last_norm: bool = False,
    ) -> None:
        pooled = Pooled(channels, level, pool)
        every = [pooled.width, *(width or pooled.width for width in widths)]
        super().__init__(pooled, perceptron(every, norm, last_norm))


def perceptron(widths: Sequence[int], norm: bool = True, last_norm: bool = False) -> nn.Sequential:
    """Linear layers of these widths with ReLU between them, as :class:`Projector` says."""
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(pairwise(widths), 1):
        last = i == len(widths) - 1
        layers.append(nn.Linear(before, after, bias=not (last_norm if last else norm)))
        if last and last_norm:
            layers.append(nn.BatchNorm1d(after, affine=False))
        elif not last:
            layers += [nn.BatchNorm1d(after), nn.ReLU()] if norm else [nn.ReLU()]
    return nn.Sequential(*layers)
