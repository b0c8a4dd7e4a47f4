"""Ratios of two ways: taken in turn, judged by their median, kept in files that become one table."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from medkit.bench.ratio import Ratio, markdown, read, save, take_turns
from medkit.errors import InputError

NUMBERS = {"slow": [4.0, 9.0, 4.0], "quick": [2.0, 3.0, 2.0]}


def test_ways_take_turns_in_an_order_that_is_reversed_every_other_round() -> None:
    called: list[str] = []
    take_turns({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, rounds=3, warm_up=1)
    assert "".join(called) == "abbaabba"


def test_rounds_of_the_warm_up_do_not_count() -> None:
    numbers = iter([100.0, 1.0, 2.0])
    assert take_turns({"a": lambda: next(numbers)}, rounds=2, clock="own", warm_up=1) == {"a": [1.0, 2.0]}


def test_waiting_takes_time_of_the_wall_and_none_of_the_cpu() -> None:
    ways = {"wait": lambda: time.sleep(0.05)}
    assert take_turns(ways, rounds=1, warm_up=0)["wait"][0] >= 0.05
    assert take_turns(ways, rounds=1, warm_up=0, clock="cpu")["wait"][0] < 0.05


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    ratio = Ratio.of("work", NUMBERS, "slow", "quick")
    assert ratio.ratio == (2.0, 2.0, 2.5)
    assert ratio.met is None


@pytest.mark.parametrize(
    ("bound", "met"), [({"at_least": 1.7}, True), ({"at_least": 2.1}, False), ({"at_most": 2.0}, True)]
)
def test_a_bound_is_held_against_the_median(bound: dict, met: bool) -> None:
    assert Ratio.of("work", NUMBERS, "slow", "quick", **bound).met is met


def test_ratios_come_back_from_their_file_with_the_machine(tmp_path: Path) -> None:
    ratio = Ratio.of("work", NUMBERS, "slow", "quick", at_least=1.7, note="a toy")
    found = read(save("toy", [ratio], tmp_path))
    assert found.ratios == [ratio]
    assert {"device", "cores", "threads", "libraries", "medkit", "commit", "measured"} <= found.environment.keys()


def test_one_table_shows_every_file_and_what_missed_its_bound(tmp_path: Path) -> None:
    save("one", [Ratio.of("work", NUMBERS, "slow", "quick", at_least=1.7, note="A toy.")], tmp_path)
    save("two", [Ratio.of("play", NUMBERS, "slow", "quick", at_most=1.0)], tmp_path)
    table = markdown(tmp_path)
    assert "| work | slow / quick | 2.00 | 2.00-2.50 | ≥ 1.7 | met |" in table
    assert "| play | slow / quick | 2.00 | 2.00-2.50 | ≤ 1 | **not met** |" in table
    assert "`ratio-one.json`" in table
    assert "A toy." in table


@pytest.mark.parametrize("text", ["{}", "[1]", "no json", '{"medkit_ratios": 99}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "ratio-a.json").write_text(text)
    with pytest.raises(InputError):
        markdown(tmp_path)


def test_a_folder_without_ratios_says_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="benchmarks/"):
        markdown(tmp_path)
