"""Ranks whose batches differ in size, or in what they can lose on, train and log as one process would on all items."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("ranks_uneven_script.py")


@pytest.mark.parametrize("mode", ["sum", "pcgrad"])
def test_every_item_counts_the_same_whatever_rank_has_it(launch_ranks: Callable[..., Path], mode: str) -> None:
    folder = launch_ranks(SCRIPT, mode)
    assert (folder / "agreed0").read_text() == (folder / "agreed1").read_text()


def test_a_loss_that_one_rank_has_once_is_logged_on_all(launch_ranks: Callable[..., Path]) -> None:
    folder = launch_ranks(SCRIPT, "rare")
    assert "train/rare" in (folder / "agreed0").read_text()
