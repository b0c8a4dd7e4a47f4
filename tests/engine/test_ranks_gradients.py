"""What two ranks agree on before they step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

SCRIPT = Path(__file__).with_name("ranks_gradients_script.py")
PCGRAD = Path(__file__).with_name("ranks_pcgrad_script.py")
BOTH = {"agreed0", "agreed1"}


def test_task_gradients_are_averaged_over_ranks_before_they_are_projected_and_fail_on_all(
    two_ranks: Callable[..., Path],
) -> None:
    assert {path.name for path in two_ranks(SCRIPT).iterdir()} == BOTH


def test_a_message_a_task_gives_the_bits_of_one_message_at_the_end(two_ranks: Callable[..., Path]) -> None:
    assert {path.name for path in two_ranks(PCGRAD).iterdir()} == BOTH
