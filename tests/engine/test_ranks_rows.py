"""Losses that compare the items of a batch with one another train on two ranks as on one with the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from medkit.parts.across_ranks import gather_rows, gathering

SCRIPT = Path(__file__).with_name("ranks_rows_script.py")


def told(folder: Path, tried: str) -> list[str]:
    return [(folder / f"{tried} {rank}").read_text() for rank in range(2)]


def test_two_ranks_train_as_one_with_the_whole_batch(launch_ranks: Callable[..., Path]) -> None:
    tries = ["sum 3", "sum 4", "pcgrad 2", "accumulate 4"]
    folder = launch_ranks(SCRIPT, *tries)
    assert {tried: told(folder, tried) for tried in tries} == dict.fromkeys(tries, ["trained alike"] * 2)


def test_a_rank_that_does_not_come_to_the_rows_of_the_others_leaves_none_waiting(
    launch_ranks: Callable[..., Path],
) -> None:
    folder = launch_ranks(SCRIPT, "fails 4", "forgets 4")
    assert told(folder, "fails 4") == ["failed together: another rank failed", "failed together: cannot look at item e"]
    assert told(folder, "forgets 4") == ["failed together: another rank failed"] * 2


def test_on_one_rank_the_rows_of_all_are_the_own_ones() -> None:
    rows = torch.rand(3, 2)
    assert gather_rows(rows) == (rows, 0)


def test_rows_are_gathered_inside_a_losses_only() -> None:
    rows = torch.rand(3, 2)
    with gathering(lambda mine: (torch.cat([mine, mine]), 3)):
        every, first = gather_rows(rows)
        assert (len(every), first) == (6, 3)
    assert gather_rows(rows)[0] is rows
