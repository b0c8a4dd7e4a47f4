"""A case is checked before it is timed; memory, targets and skipped variants end up in its result."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medkit.bench import Case, Target, Variant, Work
from medkit.bench.child import load
from medkit.bench.memory import on_cpu
from medkit.bench.session import Session
from medkit.bench.timing import Interleaved

SUITE = Path(__file__).with_name("toy.py")
toys = load(SUITE)
absent, cases, ones, relus, toy = toys.absent, toys.cases, toys.ones, toys.relus, toys.toy


@pytest.fixture
def session() -> Session:
    return Session(torch.device("cpu"), memory=False)


def test_a_wrong_variant_is_a_row_that_says_so_and_is_not_timed(session: Session) -> None:
    result = session.run(toy(Variant("wrong", ones(1.5)), tolerance=0.1), SUITE)
    wrong = result.variant("wrong")
    assert (wrong.status, wrong.reason) == ("failed", "it is off by 5.0e-01, above the tolerance of 1.0e-01")
    assert wrong.seconds is None
    assert result.status == "failed"
    assert session.failures == [f"toy: toy: 'wrong' failed: {wrong.reason}"]


def test_the_other_variants_of_a_case_with_a_wrong_one_are_measured(session: Session) -> None:
    result = session.run(toy(Variant("wrong", ones(1.5)), Variant("right", ones()), tolerance=0.1), SUITE)
    assert [variant.name for variant in result.variants if variant.seconds] == ["plain", "right"]


def test_a_variant_that_raises_is_a_row_with_the_exception(session: Session) -> None:
    result = session.run(toy(Variant("broken", toys.broken), Variant("right", ones())), SUITE)
    assert result.variant("broken").reason == "ValueError: it broke"
    assert result.variant("right").seconds is not None


def test_a_variant_that_cannot_even_be_made_is_a_row_too(session: Session) -> None:
    def make(device: torch.device):
        raise ZeroDivisionError("at once")

    assert session.run(toy(Variant("broken", make)), SUITE).variant("broken").reason == "ZeroDivisionError: at once"


def test_numbers_that_are_not_finite_are_a_failure_and_no_error_of_infinity(session: Session) -> None:
    row = session.run(toy(Variant("wrong", ones(float("nan"))), tolerance=1.0), SUITE).variant("wrong")
    assert (row.status, row.error) == ("failed", None)


@pytest.mark.parametrize("reference", [toys.broken, absent])
def test_without_its_reference_a_case_fails_as_a_whole(session: Session, reference) -> None:
    result = session.run(Case("toy", (Variant("plain", reference), Variant("right", ones()))), SUITE)
    assert result.status == "failed"
    assert result.reason.startswith("the reference 'plain'")
    assert result.variant("right").status == "skipped"


def test_a_truth_that_cannot_be_computed_fails_the_case(session: Session) -> None:
    result = session.run(toy(Variant("right", ones()), truth=toys.broken), SUITE)
    assert (result.status, result.reason) == ("failed", "ValueError: it broke")


def test_a_case_that_fails_costs_the_next_nothing(session: Session) -> None:
    session.run(toy(truth=toys.broken), SUITE)
    session.run(toy(Variant("right", ones())), SUITE)
    assert [case.status for case in session.finish()] == ["failed", "ok"]


def off(by: float):
    """A thousand ones, all of them off by this share."""
    return ones(1 + by)


def test_the_tolerance_is_what_the_reference_itself_is_off_by_times_a_margin(session: Session) -> None:
    variants = (Variant("plain", off(1e-5)), Variant("near", off(-7e-5)), Variant("far", off(-9e-5)))
    result = session.run(Case("toy", variants, truth=ones(), rounds=3), SUITE)
    assert result.tolerance == pytest.approx(8e-5, rel=0.01)
    assert [variant.status for variant in result.variants] == ["ok", "ok", "failed"]


def test_a_reference_that_is_off_by_more_than_rounding_is_wrong(session: Session) -> None:
    result = session.run(Case("toy", (Variant("plain", off(0.01)),), truth=ones()), SUITE)
    assert result.status == "failed"
    assert "more than rounding" in result.reason


def flips(*variants: Variant) -> Case:
    return Case("toy", (Variant("plain", relus()), *variants), flips=toys.exact, relative=True, rounds=3)


def test_a_relu_that_rounds_to_the_other_side_is_counted_and_no_error(session: Session) -> None:
    row = session.run(flips(Variant("flipped", relus(moved=1e-6))), SUITE).variant("flipped")
    assert (row.status, row.flips) == ("ok", 1)
    assert row.error < 1e-6


def test_without_a_flip_none_is_counted(session: Session) -> None:
    result = session.run(flips(Variant("same", relus())), SUITE)
    assert [variant.flips for variant in result.variants] == [0, 0]


def test_a_flip_does_not_excuse_a_wrong_gradient(session: Session) -> None:
    row = session.run(flips(Variant("wrong", relus(moved=1e-6, slope=1.0001))), SUITE).variant("wrong")
    assert (row.status, row.flips) == ("failed", 1)
    assert "off by 1.0e-04" in row.reason


def test_a_relu_that_flips_far_from_zero_is_an_error(session: Session) -> None:
    row = session.run(flips(Variant("wrong", relus(moved=0.5, at=40_000))), SUITE).variant("wrong")
    assert row.status == "failed"
    assert "roundings away from zero" in row.reason


def test_too_many_flips_are_an_error(session: Session) -> None:
    row = session.run(flips(Variant("wrong", relus(moved=1e-5, at=slice(49_000, 50_001)))), SUITE).variant("wrong")
    assert row.status == "failed"
    assert "of 100,001 ReLUs flipped" in row.reason


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
    assert (result.variant("absent").status, result.variant("absent").reason) == ("skipped", "it needs another machine")
    assert result.variant("absent").seconds is None
    assert result.targets[0].met is None


def test_targets_are_judged_on_their_device_only(session: Session) -> None:
    targets = (Target("same", "error", 0.0), Target("same", "speed", 1e9), Target("same", "error", 0.0, device="cuda"))
    result = session.run(toy(Variant("same", ones()), targets=targets), SUITE)
    assert [target.met for target in result.targets] == [True, False, None]


def test_peak_memory_is_that_of_a_process_of_its_own(session: Session) -> None:
    case = cases()[0]
    session.memory = True
    result = session.run(case, SUITE)
    assert 15e6 < result.variant("large").memory < 40e6
    assert result.variant("plain").memory < 5e6


def test_peak_memory_of_a_call_counts_what_it_frees_again() -> None:
    def call() -> float:
        return float(torch.ones(10_000_000).sum())

    assert on_cpu(call) > 30e6


def test_rates_and_shares_of_the_roofline_follow_from_the_work(session: Session) -> None:
    case = cases()[0]
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
    case = toy(Variant("double", ones(), dtype="float64"), work=Work(flops=1000))
    result = session.run(case, SUITE)
    session.roofline.rates = {"float32": 1e10, "float64": 4e10}
    session.finish()
    double = result.variant("double")
    assert double.roofline_share == pytest.approx(1000 / 4e10 / double.seconds[1])


def test_a_variant_with_settings_of_a_process_runs_in_one_of_its_own(session: Session) -> None:
    result = session.run(cases()[1], SUITE)
    assert [result.variant(name).error for name in ("one", "two")] == [1.0, 2.0]
    assert result.variant("one").rounds == 3
    assert result.variant("one").faults is not None


def test_a_process_of_its_own_tells_what_it_lacks(session: Session) -> None:
    assert session.run(cases()[1], SUITE).variant("absent").reason == "it needs another machine"


def test_a_process_of_its_own_that_fails_is_an_error_with_its_last_line(session: Session) -> None:
    row = session.run(cases()[2], SUITE).variant("broken")
    assert row.reason == "broken, broken: the separate process failed: ValueError: it broke"


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
