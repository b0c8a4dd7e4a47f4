"""Studies whose results are kept: the page says what the files say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
KEPT = sorted((ROOT / "benchmarks" / "results" / "studies").glob("*.json"))
TABLES = [path for path in KEPT if "claim" not in json.loads(path.read_text("utf-8"))]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(page: str, title: str) -> str:
    """What stands in a page of the docs between the lines of a table."""
    _, _, rest = (ROOT / "docs" / page).read_text("utf-8").partition(f"<!-- bench {title} -->\n")
    return rest.partition("<!-- end -->")[0]


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_the_table_of_the_docs_is_that_of_the_file(path: Path) -> None:
    made = script("keep_study").table(json.loads(path.read_text("utf-8")))
    assert shown("studies.md", f"study {path.stem}") == made.rstrip() + "\n"


def test_the_page_of_claims_says_what_the_files_say() -> None:
    assert shown("claims.md", "claims") == script("claims").page().rstrip() + "\n"


def test_no_stage_of_a_kept_study_was_trained_twice() -> None:
    assert KEPT
    for path in KEPT:
        assert json.loads(path.read_text("utf-8"))["trained_twice"] == []
