"""Which files an image is read from, and what is seen of a change in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medkit.data.files import files_of, listed, place, stamp
from medkit.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scan").mkdir()
    for i in range(3):
        (tmp_path / "scan" / f"{i}.dcm").write_bytes(b"x" * i)
    (tmp_path / "scan" / "._0.dcm").write_bytes(b"finder")
    (tmp_path / "list.txt").write_text("scan/0.dcm\n\nscan/2.dcm \n")
    return tmp_path


def test_a_series_of_a_folder_is_named_behind_a_number_sign(folder: Path) -> None:
    assert place(f"{folder}/scan#1.2.3") == (folder / "scan", "1.2.3")
    assert place(folder / "scan") == (folder / "scan", "")


def test_a_number_sign_in_the_name_of_a_file_or_folder_is_a_part_of_it(folder: Path) -> None:
    (folder / "a#1.nii.gz").write_bytes(b"")
    (folder / "s#2").mkdir()
    assert place(folder / "a#1.nii.gz") == (folder / "a#1.nii.gz", "")
    assert place(f"{folder}/s#2#1.2.3") == (folder / "s#2", "1.2.3")


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("scan", ["0.dcm", "1.dcm", "2.dcm"]),
        ("scan#1.2.3", ["0.dcm", "1.dcm", "2.dcm"]),
        ("list.txt", ["list.txt", "0.dcm", "2.dcm"]),
        ("scan/1.dcm", ["1.dcm"]),
    ],
)
def test_every_file_that_is_read_is_known(folder: Path, name: str, files: list[str]) -> None:
    assert [file.name for file in files_of(folder / name)] == files


@pytest.mark.parametrize("name", ["a.hdr", "a.img"])
def test_both_files_of_a_pair_are_known(tmp_path: Path, name: str) -> None:
    for ending in ("hdr", "img"):
        (tmp_path / f"a.{ending}").write_bytes(b"")
    assert {file.name for file in files_of(tmp_path / name)} == {"a.hdr", "a.img"}


@pytest.mark.parametrize("name", ["scan", "scan#1.2.3", "list.txt", "scan/2.dcm"])
def test_a_file_written_anew_changes_the_stamp(folder: Path, name: str) -> None:
    before = stamp(folder / name)
    os.utime(folder / "scan" / "2.dcm", ns=(1, 1))
    assert stamp(folder / name) != before


def test_a_file_that_has_gone_is_named(folder: Path) -> None:
    (folder / "scan" / "2.dcm").unlink()
    with pytest.raises(InputError, match=r"scan/2\.dcm: the file cannot be read"):
        stamp(folder / "list.txt")


def test_names_too_long_for_a_file_are_files_that_are_not_there() -> None:
    with pytest.raises(InputError, match=r"^x{100}\.\.\. \(300000 characters\)"):
        stamp("x" * 300_000)


@pytest.mark.parametrize("content", [b"", b"\n \n", "Größe".encode("latin-1")])
def test_a_list_without_a_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "l.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"l\.txt"):
        listed(tmp_path / "l.txt")
