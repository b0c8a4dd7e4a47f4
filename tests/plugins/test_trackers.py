"""Experiment trackers: each keeps a run's numbers and images where it says, offline, and goes on with a resumed run."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from helpers import small_recipe, train

from medkit import testing
from medkit.errors import InputError
from medkit.registry.build import build
from medkit.testing import example_events

NAMES = ("tensorboard", "mlflow", "wandb", "trackio")
REMOTE = ("MLFLOW_TRACKING_URI", "WANDB_MODE", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


def needs(name: str) -> Any:
    absent = importlib.util.find_spec(name) is None
    return pytest.param(name, marks=pytest.mark.skipif(absent, reason=f"pip install 'medkit-imaging[{name}]'"))


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nobody's own store is written to, and no address outside this machine is asked for."""
    for name in REMOTE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path_factory.getbasetemp() / "trackio"))  # read once a process
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path_factory.getbasetemp() / "wandb"))
    connect = socket.socket.connect

    def near(self: socket.socket, address: Any) -> Any:
        host = address[0] if isinstance(address, tuple) else "localhost"
        assert host in ("localhost", "127.0.0.1", "::1"), f"a tracker has asked for {host}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", near)


def tell(name: str, folder: Path, **arguments: Any) -> None:
    """An interrupted run and the rest of it, each with a tracker of its own, as in two processes."""
    folder.mkdir(parents=True)
    for resumed in (False, True):
        tracker = build("tracker", name, every=1, **arguments)
        for event in example_events(folder, resumed=resumed):
            if hasattr(tracker, event.method):
                getattr(tracker, event.method)(event)


@pytest.mark.parametrize("name", [needs(name) for name in NAMES])
@pytest.mark.slow
def test_a_tracker_keeps_every_promise(name: str):
    testing.check_component("tracker", f"trackers:{name}")


@pytest.mark.parametrize("name", [name for name in NAMES if importlib.util.find_spec(name) is None])
def test_a_tracker_whose_library_is_missing_says_what_to_install(name: str):
    with pytest.raises(InputError) as error:
        build("tracker", name)
    assert f"needs the package '{name}'" in str(error.value)
    assert error.value.hint == f"pip install 'medkit-imaging[{name}]'"


@pytest.mark.parametrize("name", [needs("tensorboard")])
def test_tensorboard_has_one_curve_of_both_halves_of_a_run(name: str, tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tell(name, tmp_path / "run")
    found = EventAccumulator(str(tmp_path / "run" / "trackers" / "tensorboard"))
    found.Reload()
    curves = {tag: [(e.step, round(e.value, 4)) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert curves["pretext/train/cls"] == [(1, 1.0), (2, 0.5)]
    assert curves["pretext/step/cls"] == [(1, 0.5), (2, 0.3333), (3, 0.3333), (4, 0.25)]
    assert curves["pretext/final/test/auc"] == [(1, 0.75)]
    assert "pretext/val/auc" not in curves  # it was undefined in every epoch
    assert found.Tags()["images"] == ["pretext/test/1/image"]


@pytest.mark.parametrize("name", [needs("tensorboard")])
def test_what_a_killed_run_told_is_not_told_again_by_the_rest_of_it(name: str, tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from medkit.api import EpochEnded, RunStarted, StageStarted, StepEnded

    for resumed, steps in ((False, (1, 2, 3)), (True, (2, 3, 4))):  # its last checkpoint was that of the first step
        tracker = build("tracker", name, every=1)
        tracker.run_started(RunStarted("checked", tmp_path, {}, 1, "cpu", "fp32", resumed=resumed))
        tracker.stage_started(StageStarted("pretext", epochs=2, steps=2))
        for at in steps:
            epoch, step = (at + 1) // 2, (at - 1) % 2 + 1
            tracker.step_ended(StepEnded("pretext", epoch, step, {"cls": 1.0 / at}))
            if step == 2:
                tracker.epoch_ended(EpochEnded("pretext", epoch, {"train/cls": 1.0 / epoch}))
    found = EventAccumulator(str(tmp_path / "trackers" / "tensorboard"))
    found.Reload()
    assert [e.step for e in found.Scalars("pretext/step/cls")] == [1, 2, 3, 4]
    assert [e.step for e in found.Scalars("pretext/train/cls")] == [1, 2]


@pytest.mark.parametrize("name", [needs("mlflow")])
@pytest.mark.slow  # its database takes seconds to make
def test_mlflow_has_one_run_in_the_run_folder(name: str, tmp_path: Path):
    from mlflow import MlflowClient

    folder = tmp_path / "run 50% of ä"
    tell(name, folder)
    kept = json.loads((folder / "trackers" / "mlflow.json").read_text())
    client = MlflowClient(f"sqlite:///{quote(str(folder / 'trackers' / 'mlflow.db'))}")
    experiment = client.get_experiment_by_name("checked")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.status) == (kept["run"], "FAILED")
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "pretext/train/cls")] == [
        (1, 1.0),
        (2, 0.5),
    ]
    assert run.data.params["recipe.stages.0.epochs"] == "2"
    assert (folder / "trackers" / "mlflow.db").is_file()
    assert [path.name for path in (folder / "trackers" / "mlflow").rglob("*.png")] == ["2.png"]


@pytest.mark.parametrize("name", [needs("wandb")])
@pytest.mark.slow
def test_wandb_writes_both_halves_of_a_run_offline_under_one_id(name: str, tmp_path: Path):
    tell(name, tmp_path / "run")
    key = json.loads((tmp_path / "run" / "trackers" / "wandb.json").read_text())["run"]
    files = sorted((tmp_path / "run" / "trackers" / "wandb").glob(f"offline-run-*/run-{key}.wandb"))
    assert len(files) == 2
    first, second = (path.read_bytes() for path in files)
    assert b"pretext/train/cls" in first
    assert b"pretext/final/test/auc" in second
    assert b"pretext/final/test/auc" not in first


@pytest.mark.parametrize("name", [needs("trackio")])
@pytest.mark.slow
def test_trackio_has_one_run_of_both_halves(name: str, tmp_path: Path):
    from trackio.sqlite_storage import SQLiteStorage

    tell(name, tmp_path / "run")
    key = json.loads((tmp_path / "run" / "trackers" / "trackio.json").read_text())["run"]
    logged = SQLiteStorage.get_logs("checked", key)
    assert [line["pretext/train/cls"] for line in logged if "pretext/train/cls" in line] == [1.0, 0.5]
    assert [line["pretext/epoch"] for line in logged if "pretext/train/cls" in line] == [1, 2]


@pytest.mark.parametrize("name", [needs("tensorboard")])
@pytest.mark.parametrize(("images", "wanted"), [(None, True), (True, True), (False, False)])
def test_images_are_told_unless_they_are_not_wanted(name: str, tmp_path: Path, images: bool | None, wanted: bool):
    told = _told(name, tmp_path, images=images)
    assert bool(told["pictures"]) == wanted


@pytest.mark.parametrize("name", [needs("mlflow"), needs("wandb"), needs("trackio")])
def test_images_data_and_reasons_stay_here_where_numbers_go_to_a_server(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracking.example")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("TRACKIO_SPACE_ID", "lab/space")
    told = _told(name, tmp_path)
    assert told["pictures"] == []
    assert told["numbers"]
    assert "data" not in told["settings"]["recipe"]
    assert all("patient" not in text for text in told["notes"])


def _told(name: str, folder: Path, **arguments: Any) -> dict[str, Any]:
    """What a tracker would hand to its library."""
    from medkit.api import RunStarted, StageFailed

    tracker = build("tracker", name, every=1, **arguments)
    told: dict[str, Any] = {"pictures": [], "numbers": [], "notes": []}
    tracker.pictures = lambda pictures, axis, at: told["pictures"].append(pictures)
    tracker.numbers = lambda values, axis, at: told["numbers"].append(values)
    tracker.note = told["notes"].append
    tracker.close = lambda status: None

    def events() -> Iterator[Any]:
        _, *others = example_events(folder, resumed=True)
        yield from others
        yield StageFailed("probe", "a loss is not finite; samples: patient 7")

    for event in events():
        if hasattr(tracker, event.method):
            getattr(tracker, event.method)(event)
    started = RunStarted("checked", folder, {"data": {"d": {"source": "here"}}, "seed": 1}, 1, "cpu", "fp32")
    return {**told, "settings": tracker.settings(started)}


@pytest.mark.parametrize("name", [needs("tensorboard")])
def test_a_run_is_tracked_from_its_epochs_to_its_test_results(name: str, tmp_path: Path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    recipe = small_recipe("tracked", {"maps": {"cases": 2}}, epochs=2)
    run = train(recipe, tmp_path / "run", quiet=True, track=[{"use": name, "every": 1}])
    found = EventAccumulator(str(run.folder / "trackers" / "tensorboard"))
    found.Reload()
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    curve = [(event.step, event.value) for event in found.Scalars("s/train/cls")]
    assert curve == [(line["epoch"], pytest.approx(line["train/cls"])) for line in lines]
    assert [event.step for event in found.Scalars("s/step/cls")] == [1, 2]  # a batch an epoch
    assert found.Scalars("s/final/test/auc")[0].value == pytest.approx(run.results["s"]["test"]["auc"].value)
    assert {"s/test/1/image", "s/test/2/image"} <= set(found.Tags()["images"])


@pytest.mark.parametrize("name", [needs(name) for name in NAMES])
@pytest.mark.slow
def test_nothing_that_a_tracker_says_ends_on_stdout(name: str, tmp_path: Path):
    """Also not as Python ends, which is when some libraries say good-bye."""
    code = f"import medkit; from helpers import small_recipe; medkit.run(small_recipe('t'), 'run', track=['{name}'])"
    path = os.pathsep.join([str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")])
    environ = os.environ | {"MEDKIT_CACHE": str(tmp_path / "cache"), "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "the run goes on without it" not in done.stderr  # libraries may warn of what they like
    assert (tmp_path / "run" / "trackers" / f"{name}.json").is_file()
