"""The whole simulation of verdicts once more: what docs/verdicts.md says is what comes out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from medkit_benchmarks.verdicts import Cell, cells, markdown, measured

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_what_is_simulated_again_is_what_is_kept_and_written_down() -> None:
    text = (ROOT / "benchmarks" / "results" / "verdicts.json").read_text()
    kept = {Cell(*(c[name] for name in ("seeds", "patients", "split", "kind"))): c for c in json.loads(text)}
    for cell in cells():
        found = measured(cell)
        for name, share in found.items():
            if isinstance(share, float):
                assert share == pytest.approx(kept[cell][name], abs=0.001), (cell, name)
    assert markdown(list(kept.values())) in (ROOT / "docs" / "verdicts.md").read_text()
