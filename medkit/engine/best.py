"""The best epoch of a training: a listener that keeps its weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medkit.engine import checkpoint
from medkit.engine.events import EpochEnded
from medkit.engine.settings import Wanted
from medkit.engine.state import TrainingState
from medkit.engine.strategy import Strategy
from medkit.errors import InputError


class BestWeights:
    """Keeps the weights of the epoch whose validated number was best, beside the checkpoints.

    It is told of each epoch on every rank, with the same numbers, and one of them writes.
    """

    def __init__(
        self,
        wanted: Wanted,
        objective: Any,
        state: TrainingState,
        path: Path,
        strategy: Strategy,
        say: Callable[[str], None],
    ) -> None:
        self.wanted, self.objective, self.state = wanted, objective, state
        self.path, self.strategy, self.say = path, strategy, say

    def epoch_ended(self, event: EpochEnded) -> None:
        key = self.wanted.key
        value = wanted_number(event, key, "keep_best")
        if math.isnan(value):
            self.say(f"{event.stage}: {key} is nan after epoch {event.epoch}, which cannot be kept as the best")
        elif self.wanted.improves(value, self.state.best):
            self.state.best, self.state.best_epoch = value, event.epoch
            tensors = checkpoint.tensors_of(self.objective, self.strategy.whole)
            if self.strategy.is_main:
                checkpoint.write_tensors(self.path, tensors, {})

    def take(self, stage: str) -> None:
        """Put the best epoch's weights into the objective."""
        if self.state.best_epoch is not None:
            checkpoint.load_weights(self.path, self.objective)
        else:
            self.say(no_best(stage, self.wanted.key))


def wanted_number(event: EpochEnded, key: str, what: str) -> float:
    """A number of an epoch that a recipe key (``keep_best``) names."""
    if key not in event.metrics:
        given = [name for name in event.metrics if "/" in name and not name.startswith(("train/", "lr/"))]
        raise InputError(f"{what} names '{key}', and validation gives {', '.join(given)}", f"stage {event.stage}")
    return event.metrics[key]


def no_best(stage: str, key: str) -> str:
    """What is said where ``keep_best`` found nothing to keep."""
    why = f"{key} was nan after every epoch"
    return f"{stage}: {why}, so no epoch was the best and the weights of the last one are kept"
