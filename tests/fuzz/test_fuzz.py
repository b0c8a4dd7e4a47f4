"""Damaged recipes, images and manifests are refused in words or read right; a shrinking sample of the nightly sweep."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz import seeds
from fuzz.judge import READ, judge, kinds
from fuzz.mutations import Operation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medkit.recipe import bundled

pytestmark = pytest.mark.filterwarnings("ignore")  # damaged files are spoken of at length
SOURCES: dict[str, Path] = {}
NAMES = (
    "dicom-explicit", "dicom-implicit", "dicom-deflated", "dicom-rle", "dicom-radiograph", "nifti-int16.nii",
    "nifti-int16.nii.gz", "nifti-float.nii", "png-8", "png-16", "csv", "parquet", "recipe-tiny_ich_seg", "recipe-tiny_ldct",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _inputs() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        SOURCES.update(seeds.write_all(Path(folder)))
        SOURCES.update({f"recipe-{name}": path for name, path in bundled()})
        yield


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError("no end within a minute")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def programs(name: str) -> st.SearchStrategy[list[Operation]]:
    """One to three operations."""
    operation = st.builds(
        Operation,
        kind=st.sampled_from(kinds(name)),
        place=st.floats(0, 1, exclude_max=True),
        size=st.integers(1, 2048),
        value=st.integers(0, 2**16 - 1),
    )
    return st.lists(operation, min_size=1, max_size=3)


@pytest.mark.parametrize("name", NAMES)
def test_an_undamaged_input_is_read(name: str, tmp_path: Path) -> None:
    assert judge(name, SOURCES[name], [], tmp_path) == READ


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_input_is_refused_or_read_right(name: str, tmp_path: Path) -> None:
    @settings(
        max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
    )
    @given(programs(name))
    def holds(program: list[Operation]) -> None:
        judge(name, SOURCES[name], program, tmp_path)

    holds()
