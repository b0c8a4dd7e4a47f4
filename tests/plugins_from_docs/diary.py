"""A tracker that writes a diary of the run, one line a number."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from medkit.api import EpochEnded, RunEnded, RunStarted, StageEnded, StepEnded, hookimpl


@hookimpl
def medkit_register(registry: Any) -> None:
    registry.tracker("diary", "diary:Diary", "one line a number, in a CSV file of the run folder")


class Diary:
    """``trackers/diary.csv`` of the run folder; a run that is gone on with adds to it.

    Parameters
    ----------
    steps:
        Whether the losses of every batch are written too.
    """

    def __init__(self, steps: bool = False) -> None:
        self.steps = steps
        self.path = Path()

    def run_started(self, event: RunStarted) -> None:
        self.path = event.folder / "trackers" / "diary.csv"
        self.path.parent.mkdir(exist_ok=True)
        self._write(("run", "resumed" if event.resumed else "started", event.name, event.seed))

    def step_ended(self, event: StepEnded) -> None:
        if self.steps:
            self._write(*((event.stage, f"{event.epoch}.{event.step}", k, v) for k, v in event.losses.items()))

    def epoch_ended(self, event: EpochEnded) -> None:
        self._write(*((event.stage, event.epoch, name, value) for name, value in event.metrics.items()))

    def stage_ended(self, event: StageEnded) -> None:
        self._write(*((event.stage, "end", name, value) for name, value in event.metrics.items()))

    def run_ended(self, event: RunEnded) -> None:
        self._write(("run", "ended", event.status, ""))

    def _write(self, *rows: tuple[Any, ...]) -> None:
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
