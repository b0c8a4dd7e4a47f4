"""``cases.csv``: each evaluation adds a file of its own, all of which are read, and become one in the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medkit.errors import RunError
from medkit.evaluation.case_table import CaseTable, merge_cases, read_cases, write_cases
from medkit.evaluation.results import Evaluation, write_results


def rows(stage: str, split: str = "test", **cells: Any) -> list[dict[str, Any]]:
    known = {"stage": stage, "split": split, "patient": "p", "center": "A"}
    return [{**known, "case": str(i), **cells} for i in range(3)]


def numbers(folder: Path) -> list[tuple[str, str, str]]:
    return [(row["stage"], row["case"], row["dice"]) for row in read_cases(folder)]


def test_an_evaluation_is_written_without_a_look_at_the_others(tmp_path: Path) -> None:
    """What the others hold does not matter, and they are not touched: a run of n variants writes n times its lines."""
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases.csv").write_bytes(b"no table")
    (tmp_path / "cases" / "b.test.csv").write_bytes(b"no table either")
    write_cases(tmp_path, "a", "test", rows("a", dice=0.5))
    assert (tmp_path / "cases.csv").read_bytes() == b"no table"
    assert (tmp_path / "cases" / "b.test.csv").read_bytes() == b"no table either"


def test_merging_changes_nothing_that_is_read(tmp_path: Path) -> None:
    for stage in ("b", "a", "c"):
        write_results(tmp_path, Evaluation(stage, "test", {}, rows(stage, dice=0.5), []))
    before = read_cases(tmp_path)
    merge_cases(tmp_path)
    assert read_cases(tmp_path) == before
    assert [row["stage"] for row in before] == ["b"] * 3 + ["a"] * 3 + ["c"] * 3
    assert not (tmp_path / "cases").exists()


def test_merging_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    write_cases(tmp_path, "a", "test", rows("a", dice=0.5))
    merge_cases(tmp_path)
    written = (tmp_path / "cases.csv").read_bytes()
    merge_cases(tmp_path)
    assert (tmp_path / "cases.csv").read_bytes() == written


def test_an_evaluation_again_takes_the_place_of_the_merged_one(tmp_path: Path) -> None:
    for stage in ("a", "b"):
        write_cases(tmp_path, stage, "test", rows(stage, dice=0.5))
    merge_cases(tmp_path)
    write_cases(tmp_path, "a", "test", rows("a", dice=0.75)[:1])
    wanted = [("b", "0", "0.5"), ("b", "1", "0.5"), ("b", "2", "0.5"), ("a", "0", "0.75")]
    assert numbers(tmp_path) == wanted
    merge_cases(tmp_path)
    assert numbers(tmp_path) == wanted


def test_a_merge_that_was_killed_before_it_cleaned_up_tells_nothing_twice(tmp_path: Path) -> None:
    write_cases(tmp_path, "a", "test", rows("a", dice=0.5))
    part = (tmp_path / "cases" / "a.test.csv").read_bytes()
    merge_cases(tmp_path)
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "a.test.csv").write_bytes(part)
    assert len(read_cases(tmp_path)) == 3


def test_a_folder_of_an_earlier_version_is_added_to(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("stage,split,case,patient,center,label,dice\ns,test,1,p1,A,1,0.333333\n")
    write_cases(tmp_path, "t", "test", rows("t", mae=2.0))
    merge_cases(tmp_path)
    assert [(row["stage"], row["dice"], row["mae"]) for row in read_cases(tmp_path)] == [
        ("s", "0.333333", ""),
        *[("t", "", "2.0")] * 3,
    ]


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    write_cases(tmp_path, "a", "test", rows("a", dice=0.5))
    part = tmp_path / "cases" / "a.test.csv"
    part.write_bytes(part.read_bytes()[:-3])
    with pytest.raises(RunError, match=r"a\.test\.csv"):
        read_cases(tmp_path)
    with pytest.raises(RunError, match=r"a\.test\.csv"):
        merge_cases(tmp_path)
    assert part.is_file()


def test_the_file_is_read_once_for_all_stages(tmp_path: Path) -> None:
    for stage in ("s", "s@a", "s@b"):
        write_cases(tmp_path, stage, "test", rows(stage, dice=0.5))
    merge_cases(tmp_path)
    table = CaseTable.of_folder(tmp_path)
    assert table.scores("s", "test", "dice") == [0.5] * 3
    (tmp_path / "cases.csv").unlink()
    for stage in ("s@a", "s@b"):
        assert table.scores(stage, "test", "dice") == [0.5] * 3
