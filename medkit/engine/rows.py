"""Rows of the batches of all ranks, inside a loss, with gradients that flow back to the rank they came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medkit.engine.agreement import FailedTogether, Votes
from medkit.engine.strategy import Strategy
from medkit.errors import ElsewhereError


class Rows:
    """What :func:`medkit.parts.across_ranks.gather_rows` asks, for the losses of one step on several ranks."""

    def __init__(self, strategy: Strategy, votes: Votes) -> None:
        self.strategy, self.votes = strategy, votes

    def __call__(self, rows: Tensor) -> tuple[Tensor, int]:
        """All ranks' rows, and where this rank's own begin.

        Raises
        ------
        FailedTogether
            on all ranks, if one of them has failed in its losses, or does not ask for rows.
        """
        if not self.votes.all_gather():
            raise FailedTogether from ElsewhereError()
        mine = [0] * self.strategy.world_size
        mine[self.strategy.rank] = len(rows)
        counts = [int(count) for count in self.strategy.sum(mine)]
        first = sum(counts[: self.strategy.rank])
        self.strategy.gathers = True
        every: Tensor = _Gathered.apply(rows, self.strategy, counts)  # type: ignore[no-untyped-call]
        return every, first


class _Gathered(torch.autograd.Function):
    """Rows of all ranks; backwards each rank gets, for its own rows, the gradients of all ranks' losses, summed.

    A rank's loss L_r counts n_r in the mean over ranks, so the gradient of that mean by rows of rank s is the mean of
    n_r / mean(n) dL_r/dz_s over ranks: the engine multiplies losses by the former and divides by the number of ranks.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, strategy: Strategy, counts: Sequence[int]) -> Tensor:
        ctx.strategy, ctx.counts = strategy, counts
        every = rows.new_zeros(sum(counts), *rows.shape[1:])
        every[_own(strategy, counts)] = rows
        return strategy.total(every)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = ctx.strategy.total(gradients[0])
        return total[_own(ctx.strategy, ctx.counts)], None, None


def _own(strategy: Strategy, counts: Sequence[int]) -> slice:
    first = sum(counts[: strategy.rank])
    return slice(first, first + counts[strategy.rank])
