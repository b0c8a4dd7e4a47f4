"""How long a device waited, from traces whose answer is known and from one of torch's profiler."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from medkit.bench.trace import gaps, union, waits

WORK = ("batch", "step")


def event(kind: str, name: str, begin: float, length: float) -> dict[str, Any]:
    return {"ph": "X", "cat": kind, "name": name, "ts": begin, "dur": length}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A batch of 40 us and a step of 60; two kernels overlap from 50 to 80, a copy takes the first 10."""
    events = [
        event("user_annotation", "batch", 100, 40),
        event("user_annotation", "step", 140, 60),
        event("gpu_memcpy", "copy", 95, 15),
        event("kernel", "one", 150, 20),
        event("kernel", "two", 160, 20),
        event("kernel", "later", 500, 20),
        {"ph": "M", "name": "no span"},
    ]
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"traceEvents": events}))
    return path


def test_a_device_is_busy_while_anything_runs_on_it(trace: Path) -> None:
    found = waits(trace, WORK)
    assert found.seconds == pytest.approx(100e-6)
    assert found.busy == pytest.approx(40e-6)
    assert found.fraction == pytest.approx(0.6)


def test_the_waiting_is_shared_out_among_what_the_host_did(trace: Path) -> None:
    assert waits(trace, WORK).waited_in == pytest.approx({"batch": 30e-6, "step": 30e-6})


def test_a_trace_without_named_work_has_waited_for_nothing(trace: Path) -> None:
    assert waits(trace, ["other"]).seconds == 0


def test_spans_that_touch_are_one() -> None:
    assert union([(3, 4), (0, 2), (1, 3)]) == [(0, 4)]
    assert gaps([(1, 2), (3, 4)], (0, 4)) == [(0, 1), (2, 3)]


def test_a_trace_of_the_profiler_is_read(tmp_path: Path) -> None:
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profile:
        with torch.profiler.record_function("batch"):
            time.sleep(0.05)
        with torch.profiler.record_function("step"):
            torch.ones(500, 500) @ torch.ones(500, 500)
    profile.export_chrome_trace(str(tmp_path / "trace.json"))
    found = waits(tmp_path / "trace.json", WORK, ("cpu_op",))
    assert found.waited_in["batch"] >= 0.049
    assert 0 < found.busy < found.seconds
