"""Two ranks hold the very same weights, whatever is frozen and however gradients are combined."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("ranks_script.py")


@pytest.mark.parametrize("mode", ["unfreeze", "pcgrad"])
def test_spread_of_weights_over_two_ranks_is_exactly_zero(launch_ranks: Callable[..., Path], mode: str) -> None:
    assert (launch_ranks(SCRIPT, mode) / "spread1").read_text() == "0.0"


@pytest.mark.slow
def test_torchrun_starts_ranks_too(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", SCRIPT, "plain"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*words, tmp_path], capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "spread1").read_text() == "0.0"
