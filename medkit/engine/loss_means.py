"""Losses as means over the items of all ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from medkit.engine.strategy import Strategy
from medkit.protocols import Batch

Sums = dict[str, list[float]]
"""For each loss, its sum and how many there were."""


def add_to(sums: Sums, losses: Mapping[str, float]) -> None:
    for name, value in losses.items():
        total, count = sums.get(name, (0.0, 0))
        sums[name] = [total + value, count + 1]


def means_of(sums: Sums) -> dict[str, float]:
    """Each loss's mean over the batches that had it."""
    return {name: total / count for name, (total, count) in sums.items()}


class LossMeans:
    """Averages the losses of a turn's steps, by a message that travels while gradients are computed.

    All ranks send the same names in the same order; a loss that only some ranks have is averaged over those.
    """

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self.names: list[str] = []

    def has_news(self, losses: Mapping[str, float]) -> bool:
        """Whether the ranks have to agree on names before this rank can send its losses."""
        return self.strategy.world_size > 1 and not set(losses) <= set(self.names)

    def agree(self, losses: Mapping[str, float], what: str) -> None:
        """Record the names of all ranks' losses; all of them ask for this if one has news."""
        found = self.strategy.gather(list(losses), what)
        self.names = self.strategy.share(
            list(dict.fromkeys([*self.names, *(n for names in found for n in names)])), what
        )

    def send(self, losses: Mapping[str, float], items: int) -> Callable[[], dict[str, float]]:
        """Send the losses of ``items`` items; what is returned waits for those of all ranks."""
        if self.strategy.world_size == 1:
            return lambda: dict(losses)
        counts = [items if name in losses else 0 for name in self.names]
        sums = [losses[name] * items if name in losses else 0.0 for name in self.names]
        message = self.strategy.average_async([torch.tensor([sums, counts], dtype=torch.float64)])

        def means() -> dict[str, float]:
            added, counted = message.wait()[0].tolist()
            return {name: a / n for name, a, n in zip(self.names, added, counted, strict=True) if n}

        return means


def items_of(batch: Batch) -> int:
    """How many items a batch has, as ``batch`` of a recipe counts them: slices, volumes, or slices cut into patches."""
    return len(batch.get("ids", ())) or 1
