"""``medkit study``: interrupted, gone on with, its state and its report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import run_command
from studies.conftest import recipe, study

from medkit.cli.new_plugin import write_plugin

Command = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``medkit new plugin turned`` writes: a pretext of somebody else's."""
    return write_plugin("turned", tmp_path_factory.mktemp("plugin"))


@pytest.fixture(scope="module")
def command(plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    environ = {**os.environ, "MEDKIT_CACHE": str(tmp_path_factory.mktemp("cache")), "COLUMNS": "160"}
    environ["PYTHONPATH"] = str(plugin)

    def start(*words: object) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "medkit", "study", *map(str, words)]
        return subprocess.Popen(line, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    return start


@pytest.fixture(scope="module")
def interrupted(
    command: Command, plugin: Path, write_study: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str], subprocess.CompletedProcess[str]]:
    """A study of two trials whose command got SIGTERM as soon as one had begun; then it was called again."""
    folder = tmp_path_factory.mktemp("command")
    said = study()
    said["vary"], said["methods"] = {"seed": [1]}, {"scratch": said["methods"]["scratch"]}
    said["methods"]["turned"] = {"stages.pretext.objective.heads": {"turn": {"use": "turned"}}}
    made = recipe()
    made["stages"][0]["metrics"] = []
    for stage in made["stages"]:
        del stage["draw"]  # the run decides it, and writes it into the recipe
    path, out = write_study(folder, said, made), folder / "out"
    words = ("run", path, "--out", out, "--jobs", 1, "--plugin", plugin / "medkit_turned" / "__init__.py")
    first = command(*words)
    while not list(out.glob("trials/*/recipe.yaml")):
        assert first.poll() is None, first.communicate()
        time.sleep(0.02)
    first.send_signal(signal.SIGTERM)
    told = subprocess.CompletedProcess([], first.wait(), *first.communicate())
    second = command(*words)
    outputs = second.communicate()
    return out, told, subprocess.CompletedProcess([], second.returncode, *outputs)


def test_a_signal_ends_it_in_good_order_and_it_says_how_to_go_on(interrupted: Any) -> None:
    out, first, _ = interrupted
    assert first.returncode == 130, first.stderr
    assert f"medkit study run {out.parent / 'study.yaml'} --out {out} --plugin " in first.stderr
    assert first.stderr.rstrip().endswith("' continues")
    assert "Traceback" not in first.stderr


def test_a_pretext_of_another_plugin_is_a_method_by_one_line(interrupted: Any) -> None:
    out, _, _ = interrupted
    assert (out / "trials/turned-seed1/weights/pretext.heads.turn.safetensors").is_file()


def test_called_again_it_goes_on_to_the_end_and_writes_its_report(interrupted: Any) -> None:
    out, _, second = interrupted
    assert second.returncode == 0, second.stderr
    assert "2 of 2 trials finished" in second.stderr
    assert second.stdout.rstrip().endswith(str(out / "report.html"))
    page = (out / "report.html").read_text()
    assert "3 stages were trained and 0 taken from another trial under the same key; none was trained twice." in page
    assert "What methods were given" in page
    assert "No verdict: " in page
    found = json.loads((out / "summary.json").read_text())
    assert [one["method"] for one in found["compared"][0]["summaries"]] == ["scratch", "turned"]
    assert (out / "trials.csv").read_text().startswith("trial,kind,method,seed,status,seconds,auc")


def test_it_goes_on_where_recipes_leave_it_to_the_run_which_slices_are_drawn(interrupted: Any) -> None:
    out, _, second = interrupted
    kept = yaml.safe_load((out / "recipes/scratch-seed1.yaml").read_text())
    assert kept["stages"][0]["draw"] == "positive"
    assert second.returncode == 0, second.stderr


def test_status_tells_what_became_of_the_trials(interrupted: Any) -> None:
    out, _, _ = interrupted
    said = json.loads(run_command(["study", "status", out, "--json"], out).stdout)
    assert said["counts"] == {"finished": 2, "failed": 0, "running": 0, "waiting": 0}


@pytest.fixture(scope="module")
def other(interrupted: Any) -> Path:
    """A study with one of the methods of the first."""
    out: Path = interrupted[0]
    said = yaml.safe_load((out.parent / "study.yaml").read_text())
    del said["methods"]["turned"]
    path = out.parent / "other.yaml"
    path.write_text(yaml.safe_dump(said | {"name": "other"}, sort_keys=False))
    return path


def test_another_study_takes_what_this_one_has_trained_and_says_so(
    interrupted: Any, other: Path, command: Command
) -> None:
    out, _, _ = interrupted
    process = command("run", other, "--out", out.parent / "other", "--jobs", 1, "--link", out)
    errors = process.communicate()[1]
    assert process.returncode == 0, errors
    trial = out.parent / "other/trials/scratch-seed1"
    assert f"trained already in {out / 'trials/scratch-seed1'}" in (trial / "log.txt").read_text()
    assert not (trial / "checkpoints/finer").exists()
    page = (out.parent / "other/report.html").read_text()
    assert "0 stages were trained and 0 taken from another trial under the same key; none was trained twice." in page
    assert "Taken from other studies: 1." in page


def test_stages_are_not_taken_from_a_folder_that_is_no_study(other: Path, tmp_path: Path) -> None:
    done = run_command(["study", "run", other, "--out", tmp_path / "out", "--link", tmp_path], tmp_path)
    assert f"{tmp_path}: this is not the folder of a study" in done.stderr
    assert done.returncode == 2
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_study_is_told(tmp_path: Path) -> None:
    done = run_command(["study", "status", tmp_path], tmp_path)
    assert "this is not the folder of a study" in done.stderr
    assert done.returncode == 2
