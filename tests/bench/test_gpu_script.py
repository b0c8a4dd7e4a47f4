"""``.ci/gpu`` without a GPU: its steps rehearsed with tiny sizes, and what becomes of those that fail or take too long."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from helpers import gpu_script
from medkit_benchmarks.gpu import Run, Step, outcomes_told, run_for, steps, suite_told, training_told


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(60, tmp_path, tmp_path, "rehearsal")


def program(text: str, seconds: float = 20, name: str = "step", result: str = "none.json") -> Step:
    return Step(name, [sys.executable, "-c", text], seconds, result, lambda content: [f"found {content['found']}"])


def take(run: Run, *taken: Step) -> str:
    for step in taken:
        run.take(step, dict(os.environ), run.work)
    return run.summary.read_text()


def test_a_step_that_fails_is_told_and_the_next_one_runs(run: Run) -> None:
    summary = take(run, program("raise SystemExit(3)", name="one"), program("", name="two"))
    assert "one: FAILED with exit code 3" in summary
    assert "two: done" in summary
    assert run.failed


def test_a_step_that_takes_too_long_is_stopped_and_what_it_wrote_is_told(run: Run) -> None:
    text = "import time; open('kept.json', 'w').write('{\"found\": 7}'); time.sleep(60)"
    begun = time.monotonic()
    summary = take(run, program(text, seconds=5.5, result="kept.json"))
    assert time.monotonic() - begun < 20
    assert "step: STOPPED" in summary
    assert "found 7" in summary


def test_a_step_without_time_is_not_begun(run: Run) -> None:
    run.seconds = 1
    assert "step: NOT RUN, no time was left" in take(run, program("raise SystemExit(3)"))


def test_what_a_step_leaves_of_an_earlier_run_is_not_told_as_its_own(run: Run) -> None:
    old = run.results / "old.json"
    old.write_text('{"found": 1}')
    os.utime(old, (1, 1))
    assert "found" not in take(run, program("", result="old.json"))


def test_a_process_that_is_stopped_takes_its_children_with_it(tmp_path: Path) -> None:
    child = (
        "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    )
    child += "open('pid', 'w').write(str(p.pid)); time.sleep(60)"
    assert run_for([sys.executable, "-c", child], 3, dict(os.environ), tmp_path) is None
    pid = int((tmp_path / "pid").read_text())
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists() or "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
            return
        time.sleep(0.1)
    pytest.fail("the child of the stopped process lives on")


def test_all_steps_together_fit_their_time() -> None:
    assert sum(step.seconds for step in steps("python", "cuda", Path("results"), "gpu")) <= 460


@pytest.mark.parametrize("arguments", [("--device", "tpu"), ("--wheels", "/nowhere"), ("--wheel", "x", "y")])
def test_mistakes_are_refused_before_anything_is_done(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = gpu_script(*arguments, "--results", tmp_path / "results")
    assert done.returncode == 2
    assert "usage" in done.stderr
    assert not (tmp_path / "results").exists()


def test_summaries_tell_what_failed() -> None:
    test = {"name": "test_it", "outcome": "failed", "reason": "off by 2", "said": {"resumed": "bit"}}
    assert "test_it: failed off by 2" in outcomes_told({"device": "CPU", "tests": [test]})
    row = {"recipe": "r", "status": "failed", "reason": "it broke"}
    assert training_told({"recipes": [row]}) == ["r: failed: it broke"]
    case = {"suite": "s", "name": "c", "status": "failed", "reason": "'x' failed", "targets": [], "variants": []}
    assert suite_told({"environment": {"device": "CPU"}, "cases": [case]})[1] == "s: c: 'x' failed"
