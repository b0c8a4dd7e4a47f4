"""Thousands of damaged recipes and files: no traceback, no hang, no broken data taken for whole, memory bounded."""

from __future__ import annotations

import os
from pathlib import Path

from fuzz import seeds
from fuzz.workers import sweep

from medkit.recipe import bundled

START = int(os.environ.get("MEDKIT_FUZZ_START", "0"))  # another start is another sweep


def test_damaged_recipes() -> None:
    tally = sweep({f"recipe-{name}": path for name, path in bundled()}, range(START, START + 2500))
    print(tally)
    assert not tally.faults, str(tally)


def test_damaged_files(tmp_path: Path) -> None:
    tally = sweep(seeds.write_all(tmp_path), range(START, START + 6000))
    print(tally)
    assert not tally.faults, str(tally)
