"""Small files of runs and measurements."""

from __future__ import annotations

from pathlib import Path

import pytest

from medkit.errors import RunError
from medkit.records import made_with, write_atomically


def test_a_file_replaces_the_one_before_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    write_atomically(path, b"after")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.txt": "after"}


def test_what_cannot_be_written_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()  # a folder's name cannot be taken by a file
    with pytest.raises(RunError, match="cannot be written"):
        write_atomically(tmp_path / "a", b"content")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_library_that_is_absent_is_said_to_be() -> None:
    found = made_with(["numpy", "no-such-library"])["libraries"]
    assert found["no-such-library"] == "not installed"
    assert found["numpy"][0].isdigit()
