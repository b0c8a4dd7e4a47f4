"""What two ranks agree on before they step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

SCRIPT = Path(__file__).with_name("ranks_gradients_script.py")


def test_task_gradients_are_averaged_over_ranks_before_they_are_projected(two_ranks: Callable[..., Path]) -> None:
    assert {path.name for path in two_ranks(SCRIPT).iterdir()} == {"agreed0", "agreed1"}
