"""On two ranks, too, a run that is stopped and resumed ends as one that was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("resume_ranks_script.py")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "stops"), [pytest.param("tiny_ich_cls", "1,1", marks=pytest.mark.nightly), ("tiny_ldct_mtdgan", "1,2")]
)
def test_two_ranks_resume_bit_for_bit(launch_ranks: Callable[..., Path], recipe: str, stops: str) -> None:
    assert (launch_ranks(SCRIPT, recipe, stops) / "equal").exists()
