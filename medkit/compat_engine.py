"""The engine's names of medkit 0.1, for one release: the trainer has taken their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medkit.engine.events import EpochEnded, Events, StageStarted
from medkit.engine.optimizers import Optimization
from medkit.engine.progress import Progress
from medkit.engine.runtime import Runtime
from medkit.engine.settings import Criterion, TrainingSettings
from medkit.engine.state import TrainingState
from medkit.engine.step import to_device
from medkit.engine.trainer import Batches, Trainer, Validate
from medkit.engine.unfreeze import open_stages, stages_of
from medkit.engine.unfreeze import unfreeze as thaw

__all__ = ["open_stages", "stages_of", "thaw", "to_device", "train_stage"]


def train_stage(
    objective: Any,
    loader: Batches,
    *,
    runtime: Runtime,
    folder: Path,
    validate: Validate | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> TrainingState:
    """Train an objective as :class:`medkit.engine.trainer.Trainer` does.

    ``settings`` are those of :class:`~medkit.engine.settings.TrainingSettings`, but ``name`` (its ``stage``), one of
    ``optimizers`` and ``schedules`` a turn (its ``optimizations``) and a pair for ``keep_best``; and the functions
    ``log`` (gets a dictionary an epoch) and ``on_resume`` (the epoch, from 1, that is trained again).
    """
    from medkit.runs.listeners import ShowProgress

    told = _Functions(settings.pop("log", None), settings.pop("on_resume", None))
    if settings.get("keep_best") is not None:
        settings["keep_best"] = Criterion(*settings["keep_best"])
    events = Events(own=[ShowProgress(progress or Progress(quiet=True)), told])
    optimizers, schedules = settings.pop("optimizers"), settings.pop("schedules")
    optimizations = {turn: Optimization(optimizers[turn], schedules[turn]) for turn in optimizers}
    chosen = TrainingSettings(stage=settings.pop("name"), optimizations=optimizations, **settings)
    return Trainer(objective, loader, chosen, runtime, folder, events, validate).fit()


class _Functions:
    def __init__(self, log: Any, on_resume: Any) -> None:
        self.log, self.on_resume = log, on_resume

    def stage_started(self, event: StageStarted) -> None:
        if self.on_resume is not None:
            self.on_resume(event.done + 1)

    def epoch_ended(self, event: EpochEnded) -> None:
        if self.log is not None:
            self.log({"stage": event.stage, "epoch": event.epoch, **event.metrics})
