"""Tests that take minutes each: `.ci/nightly` runs them, an ordinary run says so and leaves them out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.nightly)


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``command("run", "ich_seg", "--dry")`` as a process of its own; environment variables as keywords."""
    cache = tmp_path_factory.mktemp("cache")

    def run(*words: object, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "medkit", *map(str, words)],
            cwd=cache,
            env=os.environ | {"MEDKIT_CACHE": str(cache), "COLUMNS": "160"} | environ,
            capture_output=True,
            text=True,
            check=False,
        )

    return run
