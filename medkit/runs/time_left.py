"""How long a run will still take: by the pace of the stage that is trained, and by how much work the others are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from medkit.engine.progress import rough_duration
from medkit.errors import MedkitError
from medkit.recipe import Stage
from medkit.runs.workbench import Workbench

WORTH_TELLING = 20.0
"""Seconds below which nobody asks how long it will take."""
SETTLED = 3
"""Steps that say nothing of the pace yet: the first ones are slower."""


def works_of(bench: Workbench, stages: Sequence[Stage]) -> dict[str, float | None]:
    """How much work each stage's training is, in the seconds of its rehearsal; None where that is not known.

    Trainings differ from predictions by much the same factor in all stages, so shares of the whole are told by these
    better than by steps: an item may be a slice in one stage and a volume in the next.
    """
    return {stage.name: _work_of(bench, stage) for stage in stages}


def _work_of(bench: Workbench, stage: Stage) -> float | None:
    item = bench.rehearsed.get(stage.name)
    if item is None or stage.fitted:
        return None
    try:
        return stage.epochs * bench.sampler(stage).steps * stage.batch * item
    except MedkitError:  # it is told when the stage's turn comes
        return None


@dataclass
class TimeLeft:
    """An estimate that is made anew at every step. Evaluation between stages is not in it."""

    works: Mapping[str, float | None]
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.stage = ""
        self.total = self.done = self.first = 0
        self.begun: float | None = None

    def begin(self, stage: str, steps: int) -> None:
        """The training of a stage of so many steps in all begins, or goes on."""
        self.stage, self.total, self.done, self.first, self.begun = stage, steps, 0, 0, None

    def stepped(self, done: int) -> None:
        """So many steps of the stage are behind."""
        self.done = done
        if self.begun is None:
            self.first, self.begun = done, self.clock()

    @property
    def pace(self) -> float | None:
        """Seconds a step, validation with them; None before it has settled."""
        taken = self.done - self.first
        if self.begun is None or taken < SETTLED:
            return None
        return (self.clock() - self.begun) / taken

    @property
    def of_stage(self) -> float | None:
        """Seconds; None before the pace has settled."""
        pace = self.pace
        return None if pace is None else pace * (self.total - self.done)

    @property
    def of_others(self) -> float | None:
        """Seconds that the trainings of the stages after this one will take; None where one of them is not known."""
        names = list(self.works)
        if self.stage not in names:
            return None
        own, others = self.works[self.stage], [self.works[name] for name in names[names.index(self.stage) + 1 :]]
        if not others:
            return 0.0
        pace, known = self.pace, [work for work in others if work is not None]
        if pace is None or not own or len(known) < len(others):
            return None
        return pace * self.total * sum(known) / own

    @property
    def of_run(self) -> float | None:
        """Seconds of all stages that are left; None where that is no more than the stage's, or not known."""
        stage, others = self.of_stage, self.of_others
        return stage + others if stage is not None and others else None

    def in_words(self) -> str:
        """``4 min left, about 15 min of the run``; empty where it is not known, or soon over."""
        stage, run = self.of_stage, self.of_run
        if stage is None or max(stage, run or 0.0) < WORTH_TELLING:
            return ""
        of_run = "" if run is None else f", about {rough_duration(run)} of the run"
        return f"{rough_duration(stage)} left{of_run}"

    def of_run_in_words(self) -> str:
        """``run: about 15 min``, for a bar that has the stage's time already."""
        run = self.of_run
        return f"run: about {rough_duration(run)}" if run is not None and run >= WORTH_TELLING else ""
