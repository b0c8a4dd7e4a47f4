"""What two ranks agree on before they step."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("ranks_gradients_script.py")


def test_task_gradients_are_averaged_over_ranks_before_they_are_projected(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT), str(tmp_path)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, timeout=120)
    assert {path.name for path in tmp_path.iterdir()} == {"agreed0", "agreed1"}, done.stderr[-2000:]
