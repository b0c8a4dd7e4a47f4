"""Small files of runs and measurements."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from medkit.data.whole import whole_file, whole_folder
from medkit.errors import InputError, RunError
from medkit.records import made_with, room, write_atomically


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


def test_only_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="No such file or directory") as error:
        write_atomically(tmp_path / "nowhere" / "a", b"content")
    assert "space" not in str(error.value)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    expected = r"out: cannot be written: No space left on device; free some space$"
    with pytest.raises(RunError, match=expected), whole_file(tmp_path / "out"):
        raise full


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.EFBIG, "File too large"), "raise the limit on file size (ulimit -f)"),
        (
            SafetensorError("I/O error: File too large (os error 27)"),
            "raise the limit on file size (ulimit -f)",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "free some space in your quota"),
        (PermissionError(errno.EACCES, "Permission denied"), None),
    ],
)
def test_what_helps_depends_on_which_limit_was_reached(error: Exception, told: str | None) -> None:
    assert room(error) == told


def test_an_input_that_cannot_be_read_is_not_told_as_the_output(tmp_path: Path) -> None:
    expected = r"input\.dcm: cannot be read: No such file or directory$"
    with pytest.raises(InputError, match=expected), whole_folder(tmp_path / "out"):
        (tmp_path / "input.dcm").open()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_a_folder_s_place_is_named_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    expected = r"file/out: '.*file' is a file, so nothing can be written below it"
    with pytest.raises(InputError, match=expected), whole_file(tmp_path / "file" / "out"):
        pytest.fail("the work was begun")
