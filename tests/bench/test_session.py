"""A case is checked before it is timed; memory, targets and skipped variants end up in its result."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medkit.bench import Target, Variant
from medkit.bench.child import load
from medkit.bench.memory import on_cpu
from medkit.bench.session import Session
from medkit.errors import RunError

SUITE = Path(__file__).with_name("toy.py")
toys = load(SUITE)
absent, cases, ones, toy = toys.absent, toys.cases, toys.ones, toys.toy


@pytest.fixture
def session() -> Session:
    return Session(torch.device("cpu"))


def test_a_wrong_variant_fails_and_is_not_timed(session: Session) -> None:
    with pytest.raises(RunError, match=r"toy: 'wrong' is off by 5\.0e-01, above the tolerance of 1\.0e-01"):
        session.run(toy(Variant("wrong", ones(1.5)), tolerance=0.1), SUITE)
    assert session.results == []


def test_a_variant_with_a_tolerance_of_its_own_may_be_coarser(session: Session) -> None:
    result = session.run(toy(Variant("coarse", ones(1.5), tolerance=1.0), tolerance=0.1), SUITE)
    assert result.variant("coarse").error == 0.5


def test_another_function_is_timed_without_being_compared(session: Session) -> None:
    found = session.run(toy(Variant("other", ones(7.0), same=False)), SUITE).variant("other")
    assert found.error is None
    assert found.seconds is not None


def test_everything_is_compared_with_the_truth_where_there_is_one(session: Session) -> None:
    result = session.run(toy(Variant("near", ones(1.25)), truth=ones(1.5), tolerance=0.5), SUITE)
    assert [variant.error for variant in result.variants] == [0.5, 0.25]


def test_a_variant_that_cannot_run_here_says_why(session: Session) -> None:
    result = session.run(toy(Variant("absent", absent), targets=(Target("absent", "speed", 2.0),)), SUITE)
    assert result.variant("absent").skipped == "it needs another machine"
    assert result.variant("absent").seconds is None
    assert result.targets[0].met is None


def test_targets_are_judged_on_their_device_only(session: Session) -> None:
    targets = (Target("same", "error", 0.0), Target("same", "speed", 1e9), Target("same", "error", 0.0, device="cuda"))
    result = session.run(toy(Variant("same", ones()), targets=targets), SUITE)
    assert [target.met for target in result.targets] == [True, False, None]


def test_peak_memory_is_that_of_a_process_of_its_own(session: Session) -> None:
    (case,) = cases()
    result = session.run(case, SUITE)
    assert 15e6 < result.variant("large").memory < 40e6
    assert result.variant("plain").memory < 5e6


def test_peak_memory_of_a_call_counts_what_it_frees_again() -> None:
    def call() -> float:
        return float(torch.ones(10_000_000).sum())

    assert on_cpu(call) > 30e6


def test_rates_and_shares_of_the_roofline_follow_from_the_work(session: Session) -> None:
    (case,) = cases()
    session.memory = False
    session.run(case, SUITE)
    (result,) = session.finish()
    same = result.variant("same")
    assert same.flops_per_s == pytest.approx(1000 / same.seconds[1])
    assert same.bytes_per_s == pytest.approx(4000 / same.seconds[1])
    assert same.roofline_share > 0
    assert result.variant("large").roofline_share is None


def test_quick_runs_and_names_choose_cases() -> None:
    (quick,) = cases()
    slow = toy()
    assert [Session(torch.device("cpu"), quick=True).wants(case) for case in (quick, slow)] == [True, False]
    assert not Session(torch.device("cpu"), only="512").wants(quick)
