"""Studies whose results are kept: the page says what the files say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
KEPT = sorted((ROOT / "benchmarks" / "results" / "studies").glob("*.json"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("keep_study", ROOT / "benchmarks" / "keep_study.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_the_table_of_the_docs_is_that_of_the_file(path: Path, script: ModuleType) -> None:
    page = (ROOT / "docs" / "studies.md").read_text("utf-8")
    _, _, rest = page.partition(f"<!-- bench study {path.stem} -->\n")
    assert rest.partition("<!-- end -->")[0] == script.table(json.loads(path.read_text("utf-8"))).rstrip() + "\n"


def test_no_stage_of_a_kept_study_was_trained_twice() -> None:
    assert KEPT
    for path in KEPT:
        assert json.loads(path.read_text("utf-8"))["trained_twice"] == []
