"""What two ranks agree on before they step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from medkit.engine.shares import Split

SCRIPT = Path(__file__).with_name("ranks_gradients_script.py")
PCGRAD = Path(__file__).with_name("ranks_pcgrad_script.py")
SHARES = Path(__file__).with_name("ranks_shares_script.py")
BOTH = {"agreed0", "agreed1"}


def test_task_gradients_are_averaged_over_ranks_before_they_are_projected_and_fail_on_all(
    launch_ranks: Callable[..., Path],
) -> None:
    assert {path.name for path in launch_ranks(SCRIPT).iterdir()} == BOTH


def test_a_message_a_task_gives_the_bits_of_one_message_at_the_end(launch_ranks: Callable[..., Path]) -> None:
    assert {path.name for path in launch_ranks(PCGRAD).iterdir()} == BOTH


def test_three_ranks_of_which_one_has_no_share_end_with_the_same_projected_gradients(
    launch_ranks: Callable[..., Path],
) -> None:
    told = [path.read_text() for path in launch_ranks(SHARES, count=3).iterdir()]
    assert len(told) == 3
    assert len(set(told)) == 1


@pytest.mark.parametrize("sizes", [[5, 5, 5, 5], [100, 1, 1], [1, 1, 100], [0, 3, 0], [7], []])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_every_tensor_has_one_rank_that_works_on_it(sizes: list[int], world_size: int) -> None:
    tensors = [torch.empty(size) for size in sizes]
    shares = [Split(tensors, rank, world_size, None).mine for rank in range(world_size)]
    assert [i for share in shares for i in range(len(sizes))[share]] == list(range(len(sizes)))


def test_shares_of_equal_tensors_are_equal() -> None:
    tensors = [torch.empty(3) for _ in range(6)]
    assert [Split(tensors, rank, 3, None).mine for rank in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 6)]
