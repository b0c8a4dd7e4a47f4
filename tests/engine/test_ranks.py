"""Two ranks hold the very same weights, whatever is frozen and however gradients are combined."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import torchrun

SCRIPT = Path(__file__).with_name("ranks_script.py")


@pytest.mark.parametrize("mode", ["unfreeze", "pcgrad"])
def test_spread_of_weights_over_two_ranks_is_exactly_zero(launch_ranks: Callable[..., Path], mode: str) -> None:
    assert (launch_ranks(SCRIPT, mode) / "spread1").read_text() == "0.0"


@pytest.mark.slow
def test_torchrun_starts_ranks_too(tmp_path: Path) -> None:
    torchrun(SCRIPT, "plain", folder=tmp_path)
    assert (tmp_path / "spread1").read_text() == "0.0"
