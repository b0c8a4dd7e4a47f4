"""At least 45 of timm's families keep every promise of an encoder, and none that did has ceased to."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("timm_families.py")


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("timm_families", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_families_that_keep_the_promises_of_an_encoder_go_on_to(script: Any) -> None:
    known = {row.family: row.fault for row in script.kept().values()}
    rows = [script.tried(family, model) for family, model in script.families().items()]
    if folder := os.environ.get("MEDKIT_NIGHTLY_LOGS"):
        Path(folder, "timm_families.md").write_text(script.table(rows), "utf-8")
    assert sum(not row.fault for row in rows) >= 45
    broken = [f"{row.family}: {row.fault}" for row in rows if row.fault and known.get(row.family) == ""]
    assert not broken
