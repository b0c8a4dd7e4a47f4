"""Names of medkit 0.1's engine, for one release: the trainer has replaced them."""

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

    ``settings`` are those of :class:`~medkit.engine.settings.TrainingSettings`, except for ``name`` (its ``stage``),
    ``optimizers`` and ``schedules`` by turn (its ``optimizations``) and a pair for ``keep_best``; and the functions
    ``log`` (called with a dictionary every epoch) and ``on_resume`` (with the epoch, from 1, from which it resumes).
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
