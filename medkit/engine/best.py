"""The best epoch of a training: its weights, kept beside the checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from medkit.engine import checkpoint
from medkit.engine.events import EpochEnded
from medkit.engine.settings import Criterion
from medkit.engine.state import TrainingState
from medkit.errors import InputError


class BestWeights:
    """Keeps the weights of the epoch whose validated number was best, in a file named after the epoch's number.

    Every checkpoint names the best epoch before it, so training that continues from one, even the second-last one,
    finds the weights of that very epoch. It is told of each epoch on every rank, with the same numbers, and one of them
    writes.
    """

    def __init__(
        self, wanted: Criterion, state: TrainingState, folder: Path, writes: bool, say: Callable[[str], None]
    ) -> None:
        self.wanted, self.state, self.folder, self.writes, self.say = wanted, state, folder, writes, say
        self.before: int | None = None  # the best epoch of the checkpoint before the last

    def file(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch}.safetensors"

    def epoch_ended(self, event: EpochEnded, weights: Mapping[str, Tensor]) -> None:
        key = self.wanted.key
        value = wanted_number(event, key, "keep_best")
        self.before = self.state.best_epoch
        if math.isnan(value):
            self.say(f"{event.stage}: {key} is nan after epoch {event.epoch}, which cannot be kept as the best")
        elif self.wanted.improves(value, self.state.best):
            self.state.best, self.state.best_epoch = value, event.epoch
            if self.writes:
                checkpoint.write_tensors(self.file(event.epoch), weights, {"stage": event.stage, "epoch": event.epoch})

    def remove_older(self) -> None:
        """Remove weights that neither the last checkpoint nor the one before names."""
        named = {self.file(epoch) for epoch in (self.before, self.state.best_epoch) if epoch is not None}
        for path in self.folder.glob("best-*.safetensors") if self.writes else []:
            if path not in named:
                with suppress(OSError):
                    path.unlink()

    def take(self, stage: str, objective: Any) -> None:
        """Put the best epoch's weights into the objective."""
        if self.state.best_epoch is not None:
            checkpoint.load_weights(self.file(self.state.best_epoch), objective)
        else:
            self.say(no_best(stage, self.wanted.key))


def wanted_number(event: EpochEnded, key: str, what: str) -> float:
    """A number of an epoch that a recipe key (``keep_best``) names."""
    if key not in event.metrics:
        given = [name for name in event.metrics if "/" in name and not name.startswith(("train/", "lr/"))]
        raise InputError(f"{what} names '{key}', and validation gives {', '.join(given)}", f"stage {event.stage}")
    return event.metrics[key]


def no_best(stage: str, key: str) -> str:
    """What is reported when ``keep_best`` found nothing to keep."""
    why = f"{key} was nan after every epoch"
    return f"{stage}: {why}, so no epoch was the best and the weights of the last one are kept"
