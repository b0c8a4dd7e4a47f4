"""A whole run on the device, through the front door."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import medkit
from medkit.engine.checkpoint import read_tensors


@pytest.mark.parametrize("recipe", ["tiny_ldct_mtdgan", "tiny_ich_seg"])
def test_a_run_ends_with_results_and_a_report(
    recipe: str, device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    medkit.run(recipe, out=tmp_path / "run", device=str(device), precision="bf16")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    values = [v["value"] for stage in results.values() for split in stage.values() for v in split.values()]
    assert values
    assert any(math.isfinite(value) for value in values if value is not None)
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000


def test_what_was_trained_on_the_device_predicts_the_same_on_a_cpu(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    medkit.run("tiny_ldct", out=tmp_path / "run", device=str(device))
    weights = list((tmp_path / "run" / "weights").glob("*.safetensors"))
    assert weights
    assert {t.device.type for path in weights for t in read_tensors(path)[0].values()} == {"cpu"}
