"""``.ci/gpu`` as a whole, with tiny sizes and without a GPU."""

from __future__ import annotations

import json
from pathlib import Path

from helpers import gpu_script


def test_the_whole_script_is_rehearsed_on_a_cpu(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    arguments = ("--device", "cpu", "--installed", "--seconds", 900, "--results", tmp_path / "results")
    done = gpu_script(*arguments, OUT=str(tmp_path / "out"), MEDKIT_SHARED="/nowhere")
    summary = (tmp_path / "out" / "rehearsal-summary.txt").read_text()
    assert done.returncode == 0, summary + done.stdout[-3000:] + done.stderr[-3000:]
    assert "its numbers mean nothing" in summary
    assert "per step, the device waited" in summary
    assert "resumed: equal to the bit" in summary
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"rehearsal-summary.txt", "rehearsal-tests.json", "rehearsal-training.json"} <= found
    for suite in ("fftconv", "conv3d"):
        (path,) = (tmp_path / "out").glob(f"rehearsal-{suite}-*.json")
        assert json.loads(path.read_text())["failures"] == []


def test_medkit_is_installed_without_a_network_into_an_environment_that_sees_the_packages_at_hand(
    tmp_path: Path,
) -> None:
    done = gpu_script("--device", "cpu", "--seconds", 120, "--results", tmp_path, PIP_INDEX_URL="http://127.0.0.1:9")
    assert "installing: done" in (tmp_path / "rehearsal-summary.txt").read_text(), done.stdout + done.stderr
