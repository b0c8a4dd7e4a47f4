"""The conformance check of trackers (:mod:`medkit.testing`): they get the events of a short run, interrupted and
resumed."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medkit.protocols.events import (
    EpochEnded,
    Event,
    Images,
    Message,
    RunEnded,
    RunStarted,
    StageEnded,
    StageFailed,
    StageStarted,
    StepEnded,
)
from medkit.testing.common import build

RECIPE = {"medkit": 1, "name": "checked", "seed": 1, "stages": [{"name": "pretext", "epochs": 2}, {"name": "probe"}]}


def check_tracker(constructor: Callable[..., Any], **arguments: Any) -> None:
    """A tracker accepts every event of a run that is interrupted and resumed, and changes neither events nor the
    current folder.

    Among them are nan, a stage that fails and a run of the same name in another folder.
    """
    with tempfile.TemporaryDirectory() as name:
        for folder in (Path(name) / "first" / "run", Path(name) / "second" / "run"):
            folder.mkdir(parents=True)
            for resumed in (False, True):
                tracker = build(constructor, arguments, "tracker")
                for event in example_events(folder, resumed=resumed):
                    _tell(tracker, event)


def example_events(folder: Path, resumed: bool = False) -> Iterator[Event]:
    """The events of a run of two stages: up to its interruption, or the rest once it is ``resumed``."""
    yield RunStarted("checked", folder, RECIPE, 1, "cpu", "fp32", resumed=resumed)
    epoch = 2 if resumed else 1
    yield StageStarted("pretext", epochs=2, steps=2, done=epoch - 1)
    for step in (1, 2):
        yield StepEnded("pretext", epoch, step, {"cls": 1 / (epoch + step)}, {"main": 1e-3})
    yield EpochEnded("pretext", epoch, {"train/cls": 1 / epoch, "val/auc": float("nan"), "lr": 1e-3, "seconds": 0.5})
    status: Literal["failed", "interrupted"] = "interrupted"
    if resumed:
        status = "failed"
        yield Message("pretext: test auc 0.75")
        yield Images("pretext", "test", 2, {"1/image": np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)})
        yield StageEnded("pretext", {"test/auc": 0.75, "test/f1": float("nan")})
        yield StageFailed("probe", "a loss is not finite")
    yield RunEnded(status)


def _tell(tracker: Any, event: Event) -> None:
    method = getattr(tracker, event.method, None)
    if not callable(method):
        return
    kept, here = copy.deepcopy(event), Path.cwd()
    method(event)
    assert Path.cwd() == here, f"{event.method}() changes the current folder"
    assert repr(kept) == repr(event), f"{event.method}() changes the event, which other listeners get too"
