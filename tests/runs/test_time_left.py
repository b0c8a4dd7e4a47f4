"""How long a run will take, said while it trains."""

from __future__ import annotations

import pytest

from medkit.runs.time_left import TimeLeft


class Clock:
    """A second a look, unless it is told otherwise."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def stepped(left: TimeLeft, clock: Clock, steps: range, seconds: float) -> None:
    for step in steps:
        left.stepped(step)
        clock.now += seconds
    left.stepped(steps.stop)


def test_the_time_of_a_stage_follows_from_the_pace_of_its_steps(clock):
    left = TimeLeft({"pretext": 1.0}, clock)
    left.begin("pretext", 100)
    stepped(left, clock, range(1, 21), 10.0)
    assert left.of_stage == pytest.approx(10.0 * (100 - 21))


def test_later_stages_take_as_much_longer_as_their_work_is_more(clock):
    left = TimeLeft({"pretext": 2.0, "segment": 6.0}, clock)
    left.begin("pretext", 50)
    stepped(left, clock, range(1, 26), 1.0)
    assert left.of_others == pytest.approx(50.0 * 3)
    assert left.in_words() == "24 s left, about 3 min of the run"


def test_nothing_is_said_of_the_run_where_a_stage_s_work_is_not_known(clock):
    left = TimeLeft({"pretext": 2.0, "outside": None}, clock)
    left.begin("pretext", 500)
    stepped(left, clock, range(1, 26), 1.0)
    assert left.in_words() == "8 min left"


def test_a_stage_that_goes_on_counts_the_steps_of_this_process_only(clock):
    left = TimeLeft({"pretext": 1.0}, clock)
    left.begin("pretext", 1000)
    stepped(left, clock, range(901, 911), 2.0)
    assert left.of_stage == pytest.approx(2.0 * 89)


def test_nothing_is_said_before_the_pace_has_settled(clock):
    left = TimeLeft({"pretext": 1.0}, clock)
    left.begin("pretext", 1000)
    stepped(left, clock, range(1, 3), 60.0)
    assert left.in_words() == ""
