"""How a stage is trained, as its recipe says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medkit.engine.optimizers import Optimization
from medkit.engine.unfreeze import Plan


@dataclass(frozen=True)
class Wanted:
    """A number that validation gives, and whether higher is better."""

    key: str
    higher_is_better: bool

    def improves(self, value: float, best: float | None) -> bool:
        return best is None or (value > best if self.higher_is_better else value < best)


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
        Part to open stage by stage; all its parameters are in the optimizer from the start.
    shard:
        Parts whose weights are divided among ranks.
    keep_best:
        The validated number whose best epoch gives the weights; None keeps the last epoch's.
    checkpoint_seconds:
        Least time between checkpoints inside an epoch; there is always one at its end.
    """

    stage: str
    epochs: int
    seed: int
    optimizations: Mapping[str, Optimization]
    unfreeze: Plan | None = None
    shard: Sequence[str] = ()
    keep_best: Wanted | None = None
    checkpoint_seconds: float = 60.0
