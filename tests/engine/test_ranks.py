"""Two ranks hold the very same weights, whatever is frozen and however gradients are combined."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("ranks_script.py")


@pytest.mark.parametrize("mode", ["plain", "unfreeze", "pcgrad"])
def test_spread_of_weights_over_two_ranks_is_exactly_zero(tmp_path: Path, mode: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT), mode, str(tmp_path)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "spread1").read_text() == "0.0"
