"""Rows as processes of this machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from medkit.engine.launch import AFTER_A_SIGNAL
from medkit.errors import InputError
from medkit.executors import Row, executor_of
from medkit.executors.local import PATIENCE, Local


def finish(executor: Local) -> None:
    deadline = time.monotonic() + 600
    while executor.running():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_row_runs_and_its_words_are_in_its_log(tmp_path: Path) -> None:
    executor = Local(2)
    executor.start([Row(f"row-{i}", ["--version"]) for i in range(3)], tmp_path)
    finish(executor)
    texts = [(tmp_path / f"row-{i}.log").read_text() for i in range(3)]
    assert len(set(texts)) == 1
    assert texts[0].startswith("0.")


def test_a_row_that_fails_costs_no_other(tmp_path: Path) -> None:
    executor = Local(1)
    executor.start([Row("wrong", ["no-such-command"]), Row("right", ["--version"])], tmp_path)
    finish(executor)
    assert "no-such-command" in (tmp_path / "wrong.log").read_text()
    assert (tmp_path / "right.log").read_text().startswith("0.")


def test_leaving_ends_what_is_at_work_and_starts_nothing_more(tmp_path: Path) -> None:
    executor = Local(1)
    executor.start([Row("first", ["--version"]), Row("second", ["--version"])], tmp_path)
    executor.leave()
    assert not executor.running()
    assert not (tmp_path / "second.log").exists()


STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


def test_a_second_ctrl_c_ends_rows_that_do_not_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PATIENCE > AFTER_A_SIGNAL, "ranks of a row have their time to save"
    (tmp_path / "medkit").mkdir()
    (tmp_path / "medkit" / "__init__.py").touch()
    (tmp_path / "medkit" / "__main__.py").write_text(STUBBORN)
    executor = Local(1)
    monkeypatch.chdir(tmp_path)  # where 'python -m medkit' looks first
    executor.start([Row("stubborn", [])], tmp_path)
    deadline = time.monotonic() + 600
    while not (tmp_path / "stubborn.log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        executor.leave()
    assert not executor.running()


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(InputError, match="local, slurm, ray"):
        executor_of("moon", 2)
    with pytest.raises(InputError, match="--on slurm"):
        executor_of("local", 2, ["--partition=cpu"])
