"""A run killed at any step and resumed equals the straight run bit for bit."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
import torch
from commands import run_script

from medkit.engine import checkpoint

SCRIPT = Path(__file__).with_name("resume_script.py")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_script(SCRIPT, [folder, *arguments])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read_tensors(folder / checkpoint.LAST)[0]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("straight")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    return weights(folder)


@pytest.mark.parametrize("step", [5, *(pytest.param(step, marks=pytest.mark.nightly) for step in (2, 9))])
def test_killed_and_resumed_equals_straight(tmp_path: Path, straight: dict[str, torch.Tensor], step: int) -> None:
    killed = run(tmp_path, "--kill", str(step))
    assert killed.returncode == -signal.SIGKILL
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on at" in done.stderr
    found = weights(tmp_path)
    assert found.keys() == straight.keys()
    assert all(torch.equal(found[name], straight[name]) for name in straight)


def test_other_epochs_on_resume_are_refused(tmp_path: Path) -> None:
    run(tmp_path, "--kill", "5")
    done = run(tmp_path, "--epochs", "9")
    assert done.returncode != 0
    assert "begun for 3 epochs and is resumed for 9" in done.stderr
