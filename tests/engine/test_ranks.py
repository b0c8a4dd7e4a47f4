"""Two ranks hold the very same weights, whatever is frozen and however gradients are combined."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("ranks_script.py")


@pytest.mark.parametrize("mode", ["plain", "unfreeze", "pcgrad"])
def test_spread_of_weights_over_two_ranks_is_exactly_zero(two_ranks: Callable[..., Path], mode: str) -> None:
    assert (two_ranks(SCRIPT, mode) / "spread1").read_text() == "0.0"
