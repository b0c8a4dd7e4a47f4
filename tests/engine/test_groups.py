"""Connections to the other ranks end before Python does."""

from __future__ import annotations

import sys
from ast import literal_eval
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("groups_script.py")


@pytest.mark.skipif(sys.platform != "linux", reason="looks for threads in /proc")
def test_no_thread_of_gloo_outlives_python(launch_ranks: Callable[..., Path]) -> None:
    folder = launch_ranks(SCRIPT)
    for rank in range(2):
        before, after = literal_eval((folder / f"told{rank}").read_text())
        assert before > 0
        assert after == []
