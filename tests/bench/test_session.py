"""A case is checked before it is timed; memory, targets and skipped variants end up in its result."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medkit.bench import Target, Variant, Work
from medkit.bench.child import load
from medkit.bench.memory import on_cpu
from medkit.bench.session import Session
from medkit.bench.timing import Interleaved
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
    case = cases()[0]
    result = session.run(case, SUITE)
    assert 15e6 < result.variant("large").memory < 40e6
    assert result.variant("plain").memory < 5e6


def test_peak_memory_of_a_call_counts_what_it_frees_again() -> None:
    def call() -> float:
        return float(torch.ones(10_000_000).sum())

    assert on_cpu(call) > 30e6


def test_rates_and_shares_of_the_roofline_follow_from_the_work(session: Session) -> None:
    case = cases()[0]
    session.memory = False
    session.run(case, SUITE)
    (result,) = session.finish()
    same = result.variant("same")
    assert same.flops_per_s == pytest.approx(1000 / same.seconds[1])
    assert same.bytes_per_s == pytest.approx(4000 / same.seconds[1])
    assert same.roofline_share > 0
    assert result.variant("large").roofline_share is None


def test_no_share_of_the_roofline_is_above_one_even_where_a_variant_beats_every_probe(session: Session) -> None:
    case = toy(Variant("other", ones()), work=Work(flops=1e15, bytes=1e15))
    session.run(case, SUITE)
    (result,) = session.finish()
    assert max(variant.roofline_share for variant in result.variants) == 1
    assert "toy: " in next(name for name in session.roofline.measured() if "float32" in name)


def test_a_variant_is_held_against_the_roof_of_its_own_type_of_number(session: Session) -> None:
    case = toy(Variant("half", ones(), dtype="bfloat16"), work=Work(flops=1000))
    result = session.run(case, SUITE)
    session.roofline.rates = {"float32": 1e10, "bfloat16": 4e10}
    session.finish()
    half = result.variant("half")
    assert half.roofline_share == pytest.approx(1000 / 4e10 / half.seconds[1])


def test_a_variant_with_settings_of_a_process_runs_in_one_of_its_own(session: Session) -> None:
    result = session.run(cases()[1], SUITE)
    assert [result.variant(name).error for name in ("one", "two")] == [1.0, 2.0]
    assert result.variant("one").rounds == 3
    assert result.variant("one").faults is not None


def test_a_process_of_its_own_tells_what_it_lacks(session: Session) -> None:
    assert session.run(cases()[1], SUITE).variant("absent").skipped == "it needs another machine"


def test_a_process_of_its_own_that_fails_is_an_error_with_its_last_line(session: Session) -> None:
    with pytest.raises(RunError, match="broken, broken: the process of its own failed: ValueError: it broke"):
        session.run(cases()[2], SUITE)


def test_a_variant_may_say_something_of_itself(session: Session) -> None:
    def make(device: torch.device):
        def call() -> torch.Tensor:
            return torch.ones(1000)

        call.remark = "waited 1 %"
        return call

    assert session.run(toy(Variant("talking", make)), SUITE).variant("talking").remark == "waited 1 %"


def test_every_variant_is_called_before_it_is_timed_even_one_that_is_not_compared(session: Session) -> None:
    calls = []

    def rounds(turns: Interleaved, number: int) -> None:
        calls.append(len(counted))

    counted: list[int] = []
    other = Variant("other", lambda device: lambda: counted.append(1), same=False)
    session.run(toy(other), SUITE, rounds)
    assert calls[0] >= 2  # the check's call and the one that decides how often it is called


def test_measuring_leaves_the_settings_of_tf32_as_they_were(session: Session) -> None:
    found = []

    def make(device: torch.device):
        return lambda: found.append(torch.backends.cudnn.allow_tf32)

    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    session.run(toy(Variant("other", make, same=False)), SUITE)
    assert set(found) == {False}
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_quick_runs_and_names_choose_cases() -> None:
    quick = cases()[0]
    slow = toy()
    assert [Session(torch.device("cpu"), quick=True).wants(case) for case in (quick, slow)] == [True, False]
    assert not Session(torch.device("cpu"), only="512").wants(quick)
