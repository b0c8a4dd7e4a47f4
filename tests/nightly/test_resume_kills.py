"""Runs killed by SIGKILL at random times, each time resumed, end with the weights and results of one that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from medkit.engine.checkpoint import read_tensors

RECIPES = ["tiny_ich_seg", "tiny_ich_cls", "tiny_table6", "tiny_ldct", "tiny_ldct_mtdgan", "tiny_pedxnet_boneage"]


def medkit(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"MEDKIT_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    with (folder / "said.txt").open("ab") as said:
        return subprocess.Popen([sys.executable, "-m", "medkit", *words], env=environment, stdout=said, stderr=said)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_killed_at_random_times_ends_as_one_that_was_not(tmp_path: Path, recipe: str) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    begun = time.monotonic()
    assert medkit(tmp_path, "run", recipe, "--out", str(straight)).wait() == 0
    took, times = time.monotonic() - begun, random.Random(recipe)
    for _ in range(60):
        started = (broken / "recipe.yaml").exists()
        words = ["resume", str(broken)] if started else ["run", recipe, "--out", str(broken)]
        process = medkit(tmp_path, *words)
        try:
            code = process.wait(times.uniform(0.2, 1.2) * took)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            continue
        assert code == 0, (tmp_path / "said.txt").read_text()[-2000:]
        break
    results = [json.loads((run / "results.json").read_text()) for run in (straight, broken)]
    assert results[0] == results[1]
    for path in (straight / "weights").glob("*.safetensors"):
        found, wanted = read_tensors(broken / "weights" / path.name)[0], read_tensors(path)[0]
        assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == [], path.name
