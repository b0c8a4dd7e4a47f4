"""Studies whose results are kept."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = sorted((ROOT / "benchmarks" / "results" / "studies").glob("*.json"))


def test_no_stage_of_a_kept_study_was_trained_twice() -> None:
    assert KEPT
    for path in KEPT:
        assert json.loads(path.read_text("utf-8"))["trained_twice"] == []
