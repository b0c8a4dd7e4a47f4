"""A hundred runs killed by SIGKILL at random moments, each gone on with, end with the bytes of those that were not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from kills import kill_all


def test_runs_killed_at_random_moments_end_as_those_that_were_not(tmp_path: Path) -> None:
    try:
        equal = kill_all(tmp_path, int(os.environ.get("MEDKIT_KILLS", "100")), seed=0)
    finally:
        if (logs := os.environ.get("MEDKIT_NIGHTLY_LOGS")) and (tmp_path / "kills.log").exists():
            shutil.copy(tmp_path / "kills.log", logs)
    assert equal, (tmp_path / "kills.log").read_text()[-4000:]
