"""How a stage is trained, as its recipe says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medkit.engine.optimizers import Optimization
from medkit.engine.unfreeze import Plan
from medkit.protocols import Clip


@dataclass(frozen=True)
class Criterion:
    """A number that validation gives, and whether higher is better."""

    key: str
    higher_is_better: bool

    def improves(self, value: float, best: float | None, by: float = 0.0) -> bool:
        """Whether ``value`` is better than the ``best`` so far, by more than ``by``; NaN never is."""
        if math.isnan(value):
            return False
        return best is None or (value > best + by if self.higher_is_better else value < best - by)

    def best_of(self, epochs: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """The epoch, of several in their order, whose weights are kept: of equal ones the first; None if none has the
        number."""
        found, best = None, None
        for numbers in epochs:
            value = numbers.get(self.key)
            if value is not None and self.improves(value, best):
                found, best = numbers, value
        return found


@dataclass(frozen=True)
class Patience:
    """End the training once a number has not improved by ``min_delta`` for ``epochs`` epochs."""

    wanted: Criterion
    epochs: int
    min_delta: float = 0.0


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one stage's training.

    Parameters
    ----------
    stage:
        Its name.
    optimizations:
        How the parameters of each turn are optimized.
    unfreeze:
        Part to unfreeze stage by stage; all its parameters are in the optimizer from the start.
    shard:
        Parts whose weights are divided among ranks.
    clip:
        Bound on the gradient of a step; None leaves it as it is.
    accumulate:
        Batches whose gradients make one step; the last step of an epoch may have fewer.
    keep_best:
        The validated number whose best epoch gives the weights; None keeps the last epoch's.
    early_stop:
        What ends the training before its last epoch.
    checkpoint_seconds:
        Shortest time between checkpoints inside an epoch; there is always one at its end.
    key:
        What identifies the training: a checkpoint with another key is not resumed from. Empty if there is none.
    """

    stage: str
    epochs: int
    seed: int
    optimizations: Mapping[str, Optimization]
    unfreeze: Plan | None = None
    shard: Sequence[str] = ()
    clip: Clip | None = None
    accumulate: int = 1
    keep_best: Criterion | None = None
    early_stop: Patience | None = None
    checkpoint_seconds: float = 60.0
    key: str = ""
