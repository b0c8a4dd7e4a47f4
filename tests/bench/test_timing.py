"""Rounds, their order, and ratios from given times."""

from __future__ import annotations

import pytest
import torch

from medkit.bench.case import Work
from medkit.bench.roofline import Roofline
from medkit.bench.timing import Interleaved, quartiles, ratios, seconds

CPU = torch.device("cpu")


def called(names: list[str]) -> tuple[Interleaved, list[str]]:
    calls: list[str] = []
    functions = {name: (lambda name=name: calls.append(name)) for name in names}
    turns = Interleaved(functions, names[0], CPU)
    turns.calls = dict.fromkeys(names, 1)
    calls.clear()
    return turns, calls


def test_every_function_is_timed_once_a_round_and_each_comes_first_in_turn() -> None:
    names = ["a", "b", "c"]
    turns, calls = called(names)
    firsts = []
    for _ in range(6):
        calls.clear()
        turns.before()
        turns.reference()
        turns.after()
        assert sorted(calls) == names
        firsts.append(calls[0])
    assert set(firsts) == set(names)
    assert [len(times) for times in turns.times.values()] == [6, 6, 6]


def test_the_reference_is_timed_in_its_place_of_the_order() -> None:
    turns, calls = called(["a", "b", "c"])
    for _ in range(4):
        calls.clear()
        order = turns.order()
        turns.before()
        assert calls == order[: order.index("a")]
        turns.reference()
        turns.after()
        assert calls == order


def test_ratios_go_round_by_round() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


def test_quartiles_of_few_values() -> None:
    assert quartiles([3.0]) == (3.0, 3.0, 3.0)
    assert quartiles([4.0, 1.0, 3.0, 2.0, 5.0]) == (2.0, 3.0, 4.0)


def test_rounds_are_fewer_when_they_would_take_too_long_but_at_least_three() -> None:
    turns, _ = called(["a", "b"])
    turns.round_seconds = 1.0
    assert turns.rounds(15, budget=8.0) == 8
    assert turns.rounds(15, budget=0.5) == 3
    assert turns.rounds(2, budget=0.5) == 2


def test_calls_are_counted_into_the_seconds_of_one() -> None:
    number = []
    assert seconds(lambda: number.append(1), CPU, calls=7) >= 0
    assert len(number) == 7


def test_the_roofline_is_positive_and_its_share_falls_with_time() -> None:
    roofline = Roofline(CPU)
    roofline.measure("float32")
    assert roofline.bandwidth > 0
    assert roofline.rates["float32"] > 0
    work = Work(flops=1e9, bytes=1e6)
    one, two = roofline.share(work, 1.0), roofline.share(work, 2.0)
    assert one is not None
    assert two is not None
    assert one == 2 * two > 0
    assert roofline.share(Work(), 1.0) is None


def test_measuring_the_roofline_again_never_lowers_it() -> None:
    roofline = Roofline(CPU)
    roofline.bandwidth = 1e30
    roofline.seen("float32", 1e30, "a dream")
    roofline.measure("float32")
    assert roofline.measured() == {"copied bytes/s": 1e30, "float32 operations/s (a dream)": 1e30}


def test_a_roof_is_the_best_rate_of_its_type_and_names_what_showed_it() -> None:
    roofline = Roofline(CPU)
    for rate, by in ((2.0, "product"), (3.0, "convolution"), (1.0, "variant")):
        roofline.seen("float32", rate, by)
    roofline.seen("bfloat16", 9.0, "product")
    assert roofline.measured() == {
        "float32 operations/s (convolution)": 3.0,
        "bfloat16 operations/s (product)": 9.0,
    }


def test_half_as_wide_numbers_are_half_the_bytes() -> None:
    roofline = Roofline(CPU)
    roofline.bandwidth, roofline.rates = 1e9, {"float32": 1.0, "bfloat16": 1.0}
    work = Work(bytes=1e6)
    assert roofline.share(work, 1.0) == 2 * roofline.share(work, 1.0, "bfloat16")


def test_few_bytes_are_held_against_a_copy_of_as_many() -> None:
    roofline = Roofline(CPU)
    roofline.bandwidth, roofline.copies[1000], roofline.rates["float32"] = 1e9, 1e10, 1.0
    assert roofline.share(Work(bytes=1000), 1e-6) == pytest.approx(0.1)
    assert roofline.share(Work(bytes=2000), 1e-2) == pytest.approx(2e-4)


@pytest.mark.parametrize("dtype", ["float64", pytest.param("bfloat16", marks=pytest.mark.nightly)])
def test_a_probe_is_measured_in_every_type_of_number(dtype: str) -> None:
    roofline = Roofline(CPU)
    roofline.measure(dtype)
    assert set(roofline.rates) == {dtype}


def test_a_type_of_number_in_which_a_processor_is_slow_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medkit.bench.roofline.SLOW", 0.0)
    roofline = Roofline(CPU)
    roofline.measure("float32")
    (shown,) = roofline.rates.values()
    roofline.rates["float32"] = 1.0
    roofline.measure("float32")
    assert (roofline.rates, shown > 1) == ({"float32": 1.0}, True)
