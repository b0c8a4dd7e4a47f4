"""Progress where there is no terminal: lines at intervals, and none that says the same again and again."""

from __future__ import annotations

import pytest

from medkit.engine import progress
from medkit.engine.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def lines(capsys: pytest.CaptureFixture[str], clock: list[float], *steps: tuple[float, int, str]) -> list[str]:
    with Progress() as shown, shown.task("trials", 9) as tell:
        for seconds, done, note in steps:
            clock[0] = seconds
            tell(done, note=note)
    return capsys.readouterr().err.splitlines()


def test_a_line_is_printed_at_most_every_ten_seconds(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    assert lines(capsys, clock, (5, 1, ""), (11, 2, "about 3 min left"), (15, 3, "")) == [
        "trials: 2 of 9, about 3 min left"
    ]


def test_a_line_that_says_nothing_new_waits_for_minutes(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    steps = [(11, 2, ""), (22, 2, ""), (200, 2, ""), (312, 2, ""), (323, 3, "")]
    assert lines(capsys, clock, *steps) == ["trials: 2 of 9", "trials: 2 of 9", "trials: 3 of 9"]
