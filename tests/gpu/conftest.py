"""Tests that need a GPU: ``.ci/gpu`` runs them on one, or with ``MEDKIT_GPU_DEVICE=cpu`` as a rehearsal on a CPU.

With ``MEDKIT_GPU_TESTS`` naming a file, every test's outcome is written there as soon as it is known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from medkit.bench.device import tf32

HERE = Path(__file__).parent
DEVICE = os.environ.get("MEDKIT_GPU_DEVICE", "cuda")
KEPT = os.environ.get("MEDKIT_GPU_TESTS")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = DEVICE != "cpu" and not torch.cuda.is_available()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if missing:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def device() -> torch.device:
    return torch.device(DEVICE)


@pytest.fixture(autouse=True)
def single_precision() -> Iterator[None]:
    """Float32 is float32: TF32 would differ from a CPU by a thousandth."""
    with tf32(False):
        yield


@pytest.fixture
def explain(record_property: Callable[[str, object], None]) -> Callable[[str, object], None]:
    """``explain(what, value)`` is told in the summary of ``.ci/gpu``, beside the test."""
    return record_property


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if KEPT and HERE in item.path.parents:
        _keep(Path(KEPT), report)
    return report


FOUND: dict[str, dict[str, Any]] = {}


def _keep(path: Path, report: pytest.TestReport) -> None:
    test = FOUND.setdefault(report.nodeid, {"name": report.nodeid.rpartition("::")[2], "outcome": "", "seconds": 0.0})
    if report.outcome != "passed" or report.when == "call":
        test["outcome"] = report.outcome
    test["seconds"] += report.duration
    lines = report.longreprtext.strip().splitlines()
    test["reason"] = test.get("reason", "") or (lines[-1] if lines else "")
    if report.skipped and isinstance(report.longrepr, tuple):
        test["reason"] = report.longrepr[2]
    test["said"] = {key: str(value) for key, value in report.user_properties}
    name = torch.cuda.get_device_name() if torch.cuda.is_available() and DEVICE != "cpu" else "CPU"
    path.write_text(json.dumps({"medkit_gpu_tests": 1, "device": name, "tests": list(FOUND.values())}, indent=1))
