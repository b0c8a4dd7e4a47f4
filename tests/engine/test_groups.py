"""Connections to the other ranks end before Python does."""

from __future__ import annotations

import sys
from ast import literal_eval
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import torchrun

SCRIPT = Path(__file__).with_name("groups_script.py")


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for threads in /proc")


def left(folder: Path) -> list[str]:
    """Threads of gloo at the end of both ranks, which had some."""
    told = [literal_eval((folder / f"told{rank}").read_text()) for rank in range(2)]
    assert all(before > 0 for before, _ in told)
    return [name for _, after in told for name in after]


@pytest.mark.parametrize("mode", ["medkit", "ended", "begun"])
def test_no_thread_of_gloo_outlives_python(launch_ranks: Callable[..., Path], mode: str) -> None:
    assert left(launch_ranks(SCRIPT, mode)) == []


@pytest.mark.slow
def test_what_torch_loads_with_an_optimizer_keeps_no_connection(tmp_path: Path) -> None:
    torchrun(SCRIPT, "ended", folder=tmp_path)  # in processes that have not loaded it before
    assert left(tmp_path) == []
