"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).resolve().parent / "golden"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout (``MEDKIT_SHARED`` names another place)."""
    folder = Path(os.environ.get("MEDKIT_SHARED", ROOT.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"no reference data at {folder}; set MEDKIT_SHARED to a copy")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Vendored golden vectors."""
    return GOLDEN
