"""medkit's own listeners of a run: what people see of it, and ``metrics.jsonl``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from medkit.engine.events import (
    EpochEnded,
    Message,
    RunEnded,
    RunStarted,
    StageEnded,
    StageFailed,
    StageStarted,
    StepEnded,
)
from medkit.engine.loss_means import Sums, add_to, means_of
from medkit.engine.progress import Progress, numbers
from medkit.registry.plugins import Hooks
from medkit.runs.folder import RunFolder
from medkit.runs.handle import Run
from medkit.runs.time_left import TimeLeft

EVERY = 0.1
"""Seconds between two updates of a stage's bar."""


class ShowProgress:
    """A bar of a stage's steps with the losses' means over the epoch so far, and a line for each epoch.

    Both say how long it will take, ``left`` also for the run.
    """

    def __init__(self, progress: Progress, left: TimeLeft | None = None) -> None:
        self.progress, self.left = progress, left or TimeLeft({})
        self.epochs = self.steps = 0
        self.sums: Sums = {}
        self._bar = ExitStack()
        self._shown = 0.0
        self._advance: Callable[..., Any] = _nothing

    def stage_started(self, event: StageStarted) -> None:
        self._close()
        self.epochs, self.steps = event.epochs, event.steps
        self.sums = {}
        self.left.begin(event.stage, event.epochs * event.steps)
        if event.steps:
            self._advance = self._bar.enter_context(self.progress.task(event.stage, total=event.epochs * event.steps))

    def step_ended(self, event: StepEnded) -> None:
        add_to(self.sums, event.losses)
        done = (event.epoch - 1) * self.steps + event.step
        self.left.stepped(done)
        now = time.monotonic()
        if now - self._shown >= EVERY or event.step == self.steps:  # nobody sees more
            self._shown = now
            note = "  ".join(told for told in (numbers(means_of(self.sums)), self.left.of_run_in_words()) if told)
            self._advance(done, note=note)

    def epoch_ended(self, event: EpochEnded) -> None:
        self.sums = {}
        told = {k: v for k, v in event.metrics.items() if "/" in k and not k.startswith("lr/") and not math.isnan(v)}
        left = f"  ({told_left})" if (told_left := self.left.in_words()) else ""
        self.progress.say(f"{event.stage} {event.epoch}/{self.epochs}: {numbers(told)}{left}")
        if event.epoch >= self.epochs:
            self._close()

    def message(self, event: Message) -> None:
        self.progress.say(event.text)

    def stage_ended(self, event: StageEnded) -> None:
        self._close()

    def stage_failed(self, event: StageFailed) -> None:
        self._close()

    def _close(self) -> None:
        self._bar.close()
        self._advance = _nothing


class WriteMetrics:
    """``metrics.jsonl``: one line per epoch. An epoch that is trained again replaces its line and all later ones.

    Only its epochs show where an external program continues, so older lines are dropped at a stage's first epoch in
    this process.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.last: dict[str, int] = {}

    def epoch_ended(self, event: EpochEnded) -> None:
        if event.epoch <= self.last.get(event.stage, event.epoch):
            self.folder.drop_metrics_after(event.stage, event.epoch)
        self.last[event.stage] = event.epoch
        self.folder.append_metrics({"stage": event.stage, "epoch": event.epoch, **event.metrics})


class AskHooks:
    """Tells plugins' hooks of the run's start, its epochs and its end."""

    def __init__(self, hooks: Hooks, run: Run) -> None:
        self.hooks, self.run = hooks, run

    def run_started(self, event: RunStarted) -> None:
        self.hooks("medkit_run_start", run=self.run)

    def run_ended(self, event: RunEnded) -> None:
        self.hooks("medkit_run_end", run=self.run)

    def epoch_ended(self, event: EpochEnded) -> None:
        self.hooks("medkit_epoch_end", run=self.run, stage=event.stage, epoch=event.epoch, metrics=event.metrics)


def _nothing(*arguments: Any, **named: Any) -> None:
    """No bar is shown."""
