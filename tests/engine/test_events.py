"""Events: told to who listens for them, and no listener of a plugin can end a run."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import fields
from typing import Any

import pytest

from medkit.engine import events as engine_events
from medkit.engine.events import EpochEnded, Event, Events, Images, Listener, RunEnded, StepEnded
from medkit.errors import RunError

EPOCH = EpochEnded("pretext", 1, {"train/cls": 0.5})
STEP = StepEnded("pretext", 1, 1, {"cls": 0.5})


class Keeper:
    def __init__(self) -> None:
        self.kept: list[Event] = []

    def epoch_ended(self, event: EpochEnded) -> None:
        self.kept.append(event)


class Down:
    asked = 0

    def epoch_ended(self, event: EpochEnded) -> None:
        self.asked += 1
        raise ConnectionError("the server is down")


class Leaver:
    def epoch_ended(self, event: EpochEnded) -> None:
        sys.exit(3)


class Talker:
    def epoch_ended(self, event: EpochEnded) -> None:
        print("here I am")


def test_a_listener_gets_the_events_that_it_has_methods_for():
    keeper = Keeper()
    events = Events([("a keeper", keeper)])
    events.emit(STEP)
    events.emit(EPOCH)
    events.emit(RunEnded("finished"))
    assert keeper.kept == [EPOCH]


def test_nobody_listens_for_steps_unless_a_listener_has_the_method():
    class Stepper(Keeper):
        def step_ended(self, event: StepEnded) -> None: ...

    assert not Events([("a keeper", Keeper())]).wants(StepEnded)
    assert Events([("a keeper", Keeper())]).wants(EpochEnded)
    assert Events([("a stepper", Stepper())]).wants(StepEnded)
    assert Events(own=[Stepper()]).wants(StepEnded)
    assert not Events().wants(EpochEnded)


def test_an_attribute_named_like_an_event_is_no_method():
    keeper = Keeper()
    keeper.images = True  # type: ignore[attr-defined]
    assert not Events([("a keeper", keeper)]).wants(Images)


@pytest.mark.parametrize(
    ("listener", "cause"),
    [(Down(), "ConnectionError: the server is down (test_events.py:"), (Leaver(), "it called sys.exit(3)")],
)
def test_a_listener_that_fails_costs_one_warning_with_its_name_and_the_cause(listener: Any, cause: str):
    said: list[str] = []
    keeper = Keeper()
    events = Events([("tracker 'x'", listener), ("a keeper", keeper)], said.append)
    events.emit(EPOCH)
    events.emit(EPOCH)
    assert len(said) == 1
    assert said[0].startswith("warning: epoch_ended of tracker 'x' failed")
    assert cause in said[0]
    assert keeper.kept == [EPOCH, EPOCH]


def test_a_listener_that_has_failed_is_not_asked_again():
    down = Down()
    events = Events([("tracker 'x'", down)], lambda text: None)
    for _ in range(3):
        events.emit(EPOCH)
    assert down.asked == 1
    assert not events.wants(EpochEnded)


def test_strict_mode_raises_what_a_listener_raises(monkeypatch):
    monkeypatch.setenv("MEDKIT_STRICT", "1")
    with pytest.raises(RunError, match="epoch_ended of tracker 'x' failed: ConnectionError"):
        Events([("tracker 'x'", Down())]).emit(EPOCH)


def test_what_a_listener_prints_goes_to_stderr(capfd):
    Events([("a talker", Talker())]).emit(EPOCH)
    out, err = capfd.readouterr()
    assert out == ""
    assert "here I am" in err


def test_a_listener_of_the_run_itself_may_end_it():
    with pytest.raises(ConnectionError):
        Events(own=[Down()]).emit(EPOCH)


def test_an_interrupt_that_arrives_in_a_listener_ends_the_run():
    class Slow:
        def epoch_ended(self, event: EpochEnded) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        Events([("a slow one", Slow())], lambda text: None).emit(EPOCH)


def test_every_event_has_a_method_of_the_listener_and_says_what_it_carries():
    kinds = Event.__subclasses__()
    methods = {name for name, value in vars(Listener).items() if hasattr(value, "has_default")}
    assert {kind.method for kind in kinds} == methods
    assert all(kind.__doc__ and fields(kind) for kind in kinds)
    assert {kind.__name__ for kind in kinds} <= set(engine_events.__all__)
