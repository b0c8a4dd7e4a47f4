"""Training on two ranks, each a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ABORTED = "exitcode  : -6"


@pytest.fixture
def two_ranks(tmp_path: Path) -> Callable[..., Path]:
    """``two_ranks(script, *arguments)`` runs a script on two gloo ranks and returns the folder it was given last.

    A rank that gloo's own threads abort (SIGABRT; seen once in some fifty launches) is started once more, in a new folder:
    no Python of ours runs there. Any other end is a failure at once.
    """

    def launch(script: Path, *arguments: str) -> Path:
        words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        for attempt in range(2):
            folder = tmp_path / f"ranks{attempt}"
            folder.mkdir()
            command = [*words, *arguments, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
            if ABORTED not in done.stderr:
                break
        assert done.returncode == 0, done.stderr[-4000:]
        return folder

    return launch
