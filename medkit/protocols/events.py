"""What a run tells its listeners: events with typed fields, and the listener's methods that receive them.

Events carry plain data and no tensors, so that a listener may keep them. Only sentences (``StageFailed.reason``,
``Message.text``) and the recipe may name files, cases or patients: leave them out when sending events elsewhere.
Epochs and steps are counted from 1, times are in seconds. On several ranks only the main one (rank 0) sends events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from medkit.protocols.defaults import with_default

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Event:
    """One of the events below; ``method`` names the listener's method that gets it."""

    method: ClassVar[str]


@dataclass(frozen=True)
class RunStarted(Event):
    """A run begins, or continues after an interruption.

    ``folder`` is the run folder, absolute; ``recipe`` the resolved recipe as plain data; ``device`` a description such
    as ``NVIDIA H200``; ``precision`` ``fp32`` or ``bf16``; ``resumed`` says whether a part of the run was made before.
    """

    method: ClassVar[str] = "run_started"
    name: str
    folder: Path
    recipe: Mapping[str, Any]
    seed: int
    device: str
    precision: str
    world_size: int = 1
    resumed: bool = False


@dataclass(frozen=True)
class StageStarted(Event):
    """A stage is trained from its first epoch on, or continues after ``done`` whole epochs.

    ``steps`` is the number of batches in an epoch; 0 if another program trains and does not say.
    """

    method: ClassVar[str] = "stage_started"
    stage: str
    epochs: int
    steps: int
    done: int = 0


@dataclass(frozen=True)
class StepEnded(Event):
    """A batch has been trained on: ``step`` of ``epoch``, with the losses by name, weights applied.

    ``rates`` has the learning rate of each turn. A stage that is resumed in mid-epoch reports the steps since its last
    checkpoint again.
    """

    method: ClassVar[str] = "step_ended"
    stage: str
    epoch: int
    step: int
    losses: Mapping[str, float]
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochEnded(Event):
    """An epoch of a stage has ended with these numbers, and nothing but numbers.

    ``train/LOSS`` (the mean over the epoch), ``SPLIT/METRIC``, ``lr`` (or ``lr/TURN``) and ``seconds``; nan if a
    number is undefined. An epoch that is trained again after an interruption is reported again.
    """

    method: ClassVar[str] = "epoch_ended"
    stage: str
    epoch: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Images(Event):
    """Some slices of a split, as the report shows them, once a stage of ``epoch`` epochs has been trained.

    ``images`` maps names such as ``1/image`` or ``1/mask_probability`` to (H,W) float32 arrays in [0,1]. The number
    stands for a case, whose name is not given.
    """

    method: ClassVar[str] = "images"
    stage: str
    split: str
    epoch: int
    images: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class StageEnded(Event):
    """A stage is trained and evaluated: ``metrics`` has the value of each ``SPLIT/METRIC``, nan if undefined."""

    method: ClassVar[str] = "stage_ended"
    stage: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class StageFailed(Event):
    """A stage has failed or was left out, and why, in one sentence; the run goes on with those that do not need it."""

    method: ClassVar[str] = "stage_failed"
    stage: str
    reason: str


@dataclass(frozen=True)
class Message(Event):
    """A sentence on how the run goes, as people see it and ``log.txt`` keeps it."""

    method: ClassVar[str] = "message"
    text: str


@dataclass(frozen=True)
class RunEnded(Event):
    """A run has ended, completely or not. It comes once for each :class:`RunStarted`, unless the process was killed."""

    method: ClassVar[str] = "run_ended"
    status: Literal["finished", "failed", "interrupted"]


@runtime_checkable
class Listener(Protocol):
    """A listener to a run: an object with one or more of these methods, each given one event.

    If a listener raises, one warning names it and the cause, and it is not called again in this run.
    Training waits for it, so anything slow belongs in a thread.
    """

    @with_default
    def run_started(self, event: RunStarted) -> None:
        """Default: the event is ignored; so are all others."""

    @with_default
    def stage_started(self, event: StageStarted) -> None: ...

    @with_default
    def step_ended(self, event: StepEnded) -> None: ...

    @with_default
    def epoch_ended(self, event: EpochEnded) -> None: ...

    @with_default
    def images(self, event: Images) -> None: ...

    @with_default
    def stage_ended(self, event: StageEnded) -> None: ...

    @with_default
    def stage_failed(self, event: StageFailed) -> None: ...

    @with_default
    def message(self, event: Message) -> None: ...

    @with_default
    def run_ended(self, event: RunEnded) -> None: ...
