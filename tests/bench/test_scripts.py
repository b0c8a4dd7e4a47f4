"""Benchmark scripts are asked what they do before they measure for minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

SCRIPTS = [
    path
    for path in sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_reads_its_command_line(script: Path) -> None:
    """Only ``parse_args`` knows --help and refuses what it does not know."""
    assert ".parse_args(" in script.read_text(encoding="utf-8")
