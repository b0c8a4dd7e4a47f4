"""The command line is tested as it is used: as a process of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import run_command

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def medkit(tmp_path: Path) -> Command:
    """``medkit("list", "loss")`` in a folder and with a cache of its own; environment variables as keywords."""

    def command(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
        return run_command(arguments, tmp_path, {"MEDKIT_CACHE": str(tmp_path / "cache"), "COLUMNS": "200"} | environ)

    return command


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny run."""
    folder = tmp_path_factory.mktemp("finished")
    words = ("run", "tiny_ich_cls", "--out", folder / "run", "--seed", 3)
    made = run_command(words, folder, {"MEDKIT_CACHE": str(folder / "cache")})
    assert made.returncode == 0, made.stderr
    return folder / "run"
