"""What all trackers share: what they are told and under which names, and the run that a resumed one continues."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from medkit.api import (
    EpochEnded,
    Images,
    InputError,
    RunEnded,
    RunStarted,
    StageEnded,
    StageFailed,
    StageStarted,
    StepEnded,
)
from medkit.records import encoded, write_atomically

FOLDER = "trackers"
"""Where trackers keep their own things, in the run folder."""


class Tracker:
    """A listener that passes a run's numbers, and some of its images, to an experiment tracker.

    Numbers are named ``STAGE/train/LOSS`` and ``STAGE/SPLIT/METRIC`` over epochs, ``STAGE/step/LOSS`` over batches, and
    ``STAGE/final/SPLIT/METRIC`` once a stage is evaluated. What is undefined (nan) is left out.

    Parameters
    ----------
    every:
        Losses are sent every so many batches; 0: only for epochs.
    images:
        Whether slices are sent, as the report shows them. Default: if they stay on this machine.
    """

    name: ClassVar[str]
    library: ClassVar[str]

    def __init__(self, every: Annotated[int, Field(ge=0)] = 50, images: bool | None = None) -> None:
        if importlib.util.find_spec(self.library) is None:
            what = f"tracker '{self.name}' needs the package '{self.library}', which is not installed"
            raise InputError(what, hint=f"pip install 'medkit-imaging[{self.name}]'")
        self.every = every
        self._images_wanted = images
        self._steps = 0
        self._path: Path | None = None
        self._opened: dict[str, Any] = {}
        self._told: dict[str, int] = {}  # up to which place on each axis

    # What a tracker has to offer.

    def open(self, event: RunStarted, kept: dict[str, Any] | None) -> dict[str, Any]:
        """Open the tracker's run: a new one, or that of ``kept``, what an earlier call returned for this run."""
        raise NotImplementedError

    def local(self) -> bool:
        """Whether everything sent stays on this machine."""
        raise NotImplementedError

    def numbers(self, values: Mapping[str, float], axis: str, at: int) -> None:
        """Finite numbers by name at place ``at`` (from 1) on ``axis``, such as ``pretext/epoch``."""
        raise NotImplementedError

    def pictures(self, pictures: Mapping[str, Any], axis: str, at: int) -> None:
        """(H,W) float32 arrays in [0,1] by name."""
        raise NotImplementedError

    def note(self, text: str) -> None:
        """A sentence about the run, such as that a stage failed."""
        raise NotImplementedError

    def close(self, status: str) -> None:
        """The run has ended: ``finished``, ``failed`` or ``interrupted``."""
        raise NotImplementedError

    # What the run tells.

    def run_started(self, event: RunStarted) -> None:
        path = event.folder / FOLDER / f"{self.name}.json"
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        told = kept.pop("told", {}) if kept is not None else {}
        path.parent.mkdir(exist_ok=True)
        self._path, self._opened = path, self.open(event, kept)
        self._told = told if self._opened == kept else {}
        self._keep()

    def stage_started(self, event: StageStarted) -> None:
        self._steps = event.steps

    def step_ended(self, event: StepEnded) -> None:
        at = (event.epoch - 1) * self._steps + event.step
        if self.every and at % self.every == 0:
            losses = {f"{event.stage}/step/{name}": value for name, value in event.losses.items()}
            self._finite(losses, f"{event.stage}/batch", at)

    def epoch_ended(self, event: EpochEnded) -> None:
        values = {f"{event.stage}/{name}": value for name, value in event.metrics.items()}
        self._finite(values, f"{event.stage}/epoch", event.epoch)

    def images(self, event: Images) -> None:
        if self.local() if self._images_wanted is None else self._images_wanted:
            found = {f"{event.stage}/{event.split}/{name}": image for name, image in event.images.items()}
            if self._is_new(images := f"{event.stage}/{event.split}/images", event.epoch):
                self.pictures(found, f"{event.stage}/epoch", event.epoch)
                self._has_told(images, event.epoch)

    def stage_ended(self, event: StageEnded) -> None:
        values = {f"{event.stage}/final/{name}": value for name, value in event.metrics.items()}
        self._finite(values, f"{event.stage}/final", 1)

    def stage_failed(self, event: StageFailed) -> None:
        # A reason may name cases, which do not leave this machine.
        self.note(f"stage '{event.stage}' failed: {event.reason if self.local() else 'the log of the run says why'}")

    def run_ended(self, event: RunEnded) -> None:
        self.close(event.status)

    def settings(self, event: RunStarted) -> dict[str, Any]:
        """What the run is, as plain data; the data block names files and patients, and does not leave this machine."""
        recipe = {key: value for key, value in event.recipe.items() if key != "data" or self.local()}
        return {"recipe": recipe, "device": event.device, "precision": event.precision, "world_size": event.world_size}

    def _finite(self, values: Mapping[str, float], axis: str, at: int) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        if finite and self._is_new(axis, at):
            self.numbers(finite, axis, at)
            self._has_told(axis, at)

    def _is_new(self, axis: str, at: int) -> bool:
        """Whether a place was not sent before the run was interrupted; a resumed run reports it again."""
        return at > self._told.get(axis, 0)

    def _has_told(self, axis: str, at: int) -> None:
        self._told[axis] = at
        if self._path is not None:
            self._keep()

    def _keep(self) -> None:
        assert self._path is not None
        write_atomically(self._path, encoded(json.dumps({**self._opened, "told": self._told}) + "\n"))


def flat(settings: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Plain values, each under its path (``recipe.stages.0.epochs``)."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from flat(value, f"{path}.{key}" if path else str(key))
    elif isinstance(settings, list | tuple):
        for i, value in enumerate(settings):
            yield from flat(value, f"{path}.{i}")
    else:
        yield path, settings


def grey(image: Any) -> Any:
    """A (H,W) array in [0,1] as (H,W) uint8."""
    return (image.clip(0, 1) * 255).round().astype("uint8")


def home(folder: Path) -> Path:
    """Where a tracker writes in a run folder."""
    return folder / FOLDER
