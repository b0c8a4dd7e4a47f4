"""What ranks ask of each other, and what is said when one is missing."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from medkit.engine.runtime import Runtime
from medkit.engine.strategy import Replicated
from medkit.errors import InputError

SCRIPT = Path(__file__).with_name("strategy_script.py")


def test_a_rank_that_does_not_come_is_named_with_what_the_others_wait_for(launch_ranks: Callable[..., Path]) -> None:
    told = (launch_ranks(SCRIPT, "late") / "told0").read_text()
    assert "rank 1 did not arrive at 'validation of stage first' within 2 s" in told
    assert "MEDKIT_TIMEOUT" in told


def test_a_rank_that_has_ended_is_named_at_once(launch_ranks: Callable[..., Path]) -> None:
    assert "rank 1 ended before 'validation of stage first'" in (launch_ranks(SCRIPT, "gone") / "told0").read_text()


def test_ranks_hear_of_each_other(launch_ranks: Callable[..., Path]) -> None:
    folder = launch_ranks(SCRIPT, "hear")
    main, other = (literal_eval((folder / f"told{rank}").read_text()) for rank in range(2))
    assert main[0] == [{"rank": 0}, {"rank": 1}]
    assert other[0] == []
    same = ["from 0", [0.2, 1.0], [True, False], False, [[0.5, 1.5, 2.5], [[2.5, 2.5], [2.5, 2.5]]]]
    assert main[1:6] == other[1:6] == same
    assert other[6] == [[1.0, 2.0, 3.0], [[5.0, 5.0], [5.0, 5.0]]]  # its own tensors are left alone


def test_one_process_hears_itself() -> None:
    strategy = Runtime(torch.device("cpu")).strategy
    assert strategy.gather(1, "rows") == [1]
    assert strategy.share("a", "best epoch") == "a"
    assert strategy.sum([0.5]) == [0.5]
    assert strategy.any_true([True, False]) == [True, False]
    assert (strategy.rank, strategy.world_size, strategy.is_main) == (0, 1, True)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MEDKIT_TIMEOUT", text)
    with pytest.raises(InputError, match="MEDKIT_TIMEOUT is"):
        Replicated(torch.device("cpu"))
