"""An encoder that is divided among two ranks, beside heads that each of them holds whole, trains as a whole one."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "engine" / "sharded_script.py"
ROUNDING = 5e-5  # batch norms enlarge that of sums: 5e-6 was measured


def test_an_encoder_divided_beside_whole_heads_trains_as_a_whole_one(launch_ranks: Callable[..., Path]) -> None:
    folder = launch_ranks(SCRIPT, "encoder")
    for rank in range(2):
        assert literal_eval((folder / f"told{rank}").read_text())["divided against whole"] <= ROUNDING
