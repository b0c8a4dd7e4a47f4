"""The command line is tested as it is used: as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def medkit(tmp_path: Path) -> Command:
    """``medkit("list", "loss")`` in a folder and with a cache of its own; environment variables as keywords."""

    def command(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "medkit", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ
            | {"MEDKIT_CACHE": str(tmp_path / "cache"), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
            | environ,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return command


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny run."""
    folder = tmp_path_factory.mktemp("finished")
    made = subprocess.run(
        [sys.executable, "-m", "medkit", "run", "tiny_ich_cls", "--out", str(folder / "run"), "--seed", "3"],
        env=os.environ | {"MEDKIT_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return folder / "run"
