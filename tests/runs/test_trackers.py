"""Who is told of a run: trackers that a user names, and listeners of plugins."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import go_on, small_recipe, train

import medkit
from medkit.api import Event, hookimpl
from medkit.errors import InputError
from medkit.registry import Entry, plugins
from medkit.registry.plugins import registry
from medkit.runs.trackers import read_trackers

TOLD: list[Event] = []


class Everything:
    """Keeps every event.

    Parameters
    ----------
    every:
        A setting.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = every

    def _keep(self, event: Event) -> None:
        TOLD.append(event)

    run_started = stage_started = step_ended = epoch_ended = images = _keep
    stage_ended = stage_failed = message = run_ended = _keep


class Stubborn:
    """Cannot be built."""

    def __init__(self) -> None:
        raise InputError("tracker 'stubborn' needs the package 'stubborn'", hint="pip install stubborn")

    def run_ended(self, event: Event) -> None: ...


class Interrupter:
    """Ctrl-C at an epoch's end."""

    epoch = 0

    def epoch_ended(self, event: Any) -> None:
        if event.epoch == self.epoch:
            os.kill(os.getpid(), signal.SIGINT)


class Down:
    """Its server is down, and it leaves."""

    def run_started(self, event: Event) -> None:
        print("connecting")

    def step_ended(self, event: Event) -> None:
        sys.exit(3)


class Careless:
    """Empties what it is given."""

    def epoch_ended(self, event: Any) -> None:
        event.metrics.clear()


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "told_trackers", sys.modules[__name__])
    TOLD.clear()
    added = []
    for cls in (Everything, Stubborn, Interrupter, Down, Careless):
        registry().add(Entry("tracker", "told", cls.__name__.lower(), f"{__name__}:{cls.__name__}", ""))
        added.append(("tracker", f"told:{cls.__name__.lower()}"))
    yield
    for key in added:
        del registry().entries[key]


def recipe(**stage: Any) -> Any:
    return small_recipe("tracked", {"maps": {"cases": 2}}, **stage)


def kinds(stage: str | None = None) -> list[str]:
    return [type(event).__name__ for event in TOLD if stage is None or getattr(event, "stage", "") == stage]


def test_a_tracker_is_told_of_a_whole_run(tmp_path):
    train(recipe(epochs=2), tmp_path / "run", quiet=True, track=["everything"])
    steps = [event for event in TOLD if type(event).__name__ == "StepEnded"]
    (started,) = [event for event in TOLD if type(event).__name__ == "StageStarted"]
    assert (started.stage, started.epochs, started.done) == ("s", 2, 0)
    assert [(e.epoch, e.step) for e in steps] == [(i, j + 1) for i in (1, 2) for j in range(started.steps)]
    wanted = ["RunStarted", "StageStarted", *["StepEnded"] * started.steps, "EpochEnded"]
    wanted += [*["StepEnded"] * started.steps, "EpochEnded", "Images", "StageEnded", "RunEnded"]
    assert [kind for kind in kinds() if kind != "Message"] == wanted
    first, last = TOLD[0], TOLD[-1]
    assert (first.name, first.folder, first.resumed) == ("tracked", tmp_path / "run", False)
    assert first.recipe["stages"][0]["epochs"] == 2
    assert last.status == "finished"


def test_a_tracker_that_changes_the_numbers_it_gets_changes_nobody_elses(tmp_path):
    stop = {"metric": "auc", "split": "val", "patience": 5}
    run = train(recipe(epochs=1, early_stop=stop), tmp_path / "run", quiet=True, track=["careless"])
    assert run.status == "finished"


def test_images_name_no_case_and_lie_between_0_and_1(tmp_path):
    run = train(recipe(), tmp_path / "run", quiet=True, track=["everything"])
    (event,) = [event for event in TOLD if type(event).__name__ == "Images"]
    assert {"1/image", "2/image"} <= set(event.images)
    assert all(a.shape == (32, 32) and a.min() >= 0 and a.max() <= 1 for a in event.images.values())
    (ended,) = [event for event in TOLD if type(event).__name__ == "StageEnded"]
    assert ended.metrics["test/auc"] == pytest.approx(run.results["s"]["test"]["auc"].value, nan_ok=True)


def test_a_stage_that_fails_is_told_and_the_run_ends_as_failed(tmp_path):
    with pytest.raises(medkit.errors.RunError):
        train(recipe(optim={"use": "sgd", "lr": 1e30}), tmp_path / "run", quiet=True, track=["everything"])
    assert [kind for kind in kinds() if kind in ("StageEnded", "StageFailed")] == ["StageFailed"]
    assert TOLD[-1].status == "failed"


def test_a_resumed_run_goes_on_with_the_trackers_it_had(tmp_path, monkeypatch):
    monkeypatch.setattr(Interrupter, "epoch", 1)
    track = [{"use": "everything", "every": 7}, "interrupter"]
    with pytest.raises(KeyboardInterrupt):
        train(recipe(epochs=2), tmp_path / "run", quiet=True, track=track)
    assert TOLD[-1].status == "interrupted"
    monkeypatch.setattr(Interrupter, "epoch", 0)
    TOLD.clear()
    go_on(tmp_path / "run", quiet=True)
    assert TOLD[0].resumed is True
    assert TOLD[-1].status == "finished"
    kept = json.loads((tmp_path / "run" / "environment.json").read_text())["track"]
    assert kept == [{"use": "told:everything", "every": 7}, {"use": "told:interrupter"}]
    # The first epoch's checkpoint had not been written yet.
    assert [event.epoch for event in TOLD if type(event).__name__ == "EpochEnded"] == [1, 2]


def test_a_tracker_named_at_resume_is_told_too_and_kept(tmp_path):
    train(recipe(), tmp_path / "run", quiet=True)
    go_on(tmp_path / "run", quiet=True, track=["everything"])
    assert kinds()[0] == "RunStarted"
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["track"] == [{"use": "told:everything"}]


def test_a_tracker_that_leaves_costs_a_warning(tmp_path, capsys):
    run = medkit.run(recipe(), tmp_path / "run", track=["down", "everything"])
    said = capsys.readouterr()
    assert run.report.is_file()
    assert said.err.count("step_ended of tracker 'told:down' failed, and the run goes on without it") == 1
    assert "it called sys.exit(3)" in said.err
    assert said.out == ""
    assert TOLD[-1].status == "finished"


@pytest.mark.parametrize(
    ("track", "said"),
    [
        ("everythin", "did you mean"),
        ("stubborn", "needs the package 'stubborn'"),
        ({"use": "everything", "every": "often"}, "every"),
        ("{use: everything, evry: 2}", "did you mean 'every'"),
        ("{from: s.encoder}", "cannot be a part of a recipe"),
        ("{use: ", "--track"),
    ],
)
def test_a_tracker_that_cannot_be_is_refused_before_anything_is_written(tmp_path, track, said):
    with pytest.raises(InputError) as error:
        medkit.run(recipe(), tmp_path / "run", quiet=True, track=[track])
    assert said in str(error.value) + str(error.value.hint)
    assert not (tmp_path / "run").exists()


def test_of_a_tracker_named_twice_the_last_counts():
    (block,) = read_trackers(["everything", "{use: everything, every: 3}"])
    assert block.arguments == {"every": 3}


def test_plugins_have_listeners_for_every_run(tmp_path, capsys):
    manager = plugins._loaded().manager
    listener = Everything()
    answers = {"good": [listener], "bad": listener, "worse": [object()]}
    for name, answer in answers.items():
        hook = hookimpl(lambda run, answer=answer: answer)
        manager.register(SimpleNamespace(medkit_listeners=hook), name)
    try:
        train(recipe(), tmp_path / "run")
    finally:
        for name in answers:
            manager.unregister(name=name)
    said = capsys.readouterr().err
    assert TOLD[-1].status == "finished"
    assert "medkit_listeners of plugin 'bad' failed" in said
    assert "not a list of listeners" in said
    assert "medkit_listeners of plugin 'worse' failed" in said
