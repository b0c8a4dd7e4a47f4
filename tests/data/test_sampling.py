"""Balanced samples: right numbers, natural rest, no patient on both sides."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from medkit.data.sampling import ByDate, Hierarchy, balanced, sample_manifest
from medkit.errors import InputError

FINE = ("cat", "dog", "carp", "pike", "rook")
TREE = Hierarchy(
    {"kind": ("mammal", "fish", "bird"), "animal": FINE},
    {"kind": np.array([0, 0, 1, 1, 2]), "animal": np.arange(5)},
)
COUNTS = (40, 30, 25, 12, 20)


def manifest(folder: Path, kind: str = "parquet", **columns: Any) -> Path:
    """Animals by COUNTS in mixed order, one patient each, dates from 2018-01-01 on, a day a row."""
    names = np.random.default_rng(0).permutation(np.repeat(FINE, COUNTS))
    table = {
        "image": [f"{i}.png" for i in range(len(names))],
        "animal": names,
        "patient": [f"p{i}" for i in range(len(names))],
        "date": np.datetime64("2018-01-01") + np.arange(len(names)),
    } | columns
    path = folder / f"list.{kind}"
    if kind == "parquet":
        parquet.write_table(pa.table(table), path)
    else:
        pa.table(table).to_pandas().to_csv(path, index=False)
    return path


def drawn(path: Path, **options: Any) -> dict[str, Counter[str]]:
    """How often each class is in the sample of each level."""
    found = sample_manifest(path, TREE, column="animal", patient="patient", **options)
    return {
        level: Counter(TREE.levels[level][TREE.of_finest[level][code]] for code in found.codes[rows])
        for level, rows in found.train.items()
    }


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_every_level_has_the_same_total_in_equal_shares(tmp_path: Path, kind: str) -> None:
    """3 kinds of at least 20, 5 animals of at least 12: 60 in all, 20 or 12 each."""
    found = drawn(manifest(tmp_path, kind))
    assert found["kind"] == dict.fromkeys(("mammal", "fish", "bird"), 20)
    assert found["animal"] == dict.fromkeys(FINE, 12)


def test_what_is_left_over_goes_to_the_first_classes_by_name(tmp_path: Path) -> None:
    found = drawn(manifest(tmp_path), total=53)
    assert found["kind"] == {"bird": 18, "fish": 18, "mammal": 17}
    assert found["animal"] == {"carp": 11, "cat": 11, "dog": 11, "pike": 10, "rook": 10}


def test_no_row_is_drawn_twice() -> None:
    codes = np.random.default_rng(1).integers(0, 3, 300)
    rows = balanced(codes, {0: "a", 1: "b", 2: "c"}, 90, np.random.default_rng(0))
    assert len(np.unique(rows)) == 90


def test_the_seed_decides_the_sample(tmp_path: Path) -> None:
    path = manifest(tmp_path)
    first, again, other = (
        sample_manifest(path, TREE, column="animal", patient="patient", seed=seed).train["kind"] for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_every_row_of_a_class_is_as_likely_as_any_other() -> None:
    codes = np.repeat([0, 1], (20, 10))
    hits = np.zeros(30)
    for seed in range(600):
        hits[balanced(codes, {0: "a", 1: "b"}, 10, np.random.default_rng(seed))] += 1
    assert (np.abs(hits[:20] / 600 - 5 / 20) < 0.06).all()


def test_a_total_that_a_class_cannot_give_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="class 'bird' has 20 rows, but 30 are needed"):
        drawn(manifest(tmp_path), total=90)


def test_rows_without_a_class_are_left_out(tmp_path: Path) -> None:
    names = np.random.default_rng(0).permutation(np.repeat(FINE, COUNTS)).tolist()
    path = manifest(tmp_path, animal=[None if i % 10 == 0 else name for i, name in enumerate(names)])
    found = sample_manifest(path, TREE, column="animal", patient="patient")
    assert all((rows % 10 != 0).all() for rows in found.train.values())


def test_an_unknown_class_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    names = np.repeat(FINE, COUNTS).tolist()
    names[3] = "catt"
    with pytest.raises(InputError, match="'catt' is not a class; did you mean 'cat'"):
        drawn(manifest(tmp_path, animal=names))


def test_a_class_without_rows_is_named(tmp_path: Path) -> None:
    names = np.where(np.repeat(FINE, COUNTS) == "rook", "cat", np.repeat(FINE, COUNTS))
    with pytest.raises(InputError, match="1 of the 3 classes of level kind have no rows: bird"):
        drawn(manifest(tmp_path, animal=names))


def test_later_rows_keep_their_natural_balance(tmp_path: Path) -> None:
    path = manifest(tmp_path)
    found = sample_manifest(
        path, TREE, column="animal", patient="patient", by_date=ByDate("date", "2018-04-01"), seed=0
    )
    assert np.array_equal(found.later, np.arange(90, sum(COUNTS)))
    assert all((rows < 90).all() for rows in found.train.values())


@pytest.mark.parametrize("written", ["text", "time"])
def test_dates_may_be_text_or_times(tmp_path: Path, written: str) -> None:
    days = np.datetime64("2018-01-01") + np.arange(sum(COUNTS))
    values = days.astype(str) if written == "text" else days.astype("datetime64[ms]") + np.timedelta64(5, "h")
    found = sample_manifest(
        manifest(tmp_path, date=values), TREE, column="animal", patient="patient", by_date=ByDate("date", "2018-04-01")
    )
    assert len(found.later) == sum(COUNTS) - 90


@pytest.mark.parametrize(
    "written", ["20180101", 20180101, "2018-01-01", np.int32(20180101)], ids=["DICOM", "number", "text", "small number"]
)
def test_dates_without_dashes_are_dates(tmp_path: Path, written: Any) -> None:
    days = (np.datetime64("2018-01-01") + np.arange(sum(COUNTS))).astype(str)
    values = [day if written == "2018-01-01" else type(written)(day.replace("-", "")) for day in days]
    found = sample_manifest(
        manifest(tmp_path, date=values), TREE, column="animal", patient="patient", by_date=ByDate("date", "2018-04-01")
    )
    assert len(found.later) == sum(COUNTS) - 90


def test_the_day_of_a_time_is_that_of_its_own_time_zone(tmp_path: Path) -> None:
    days = pandas.Series(np.datetime64("2018-01-01") + np.arange(sum(COUNTS))).dt.as_unit("ms")
    values = (days + pandas.Timedelta("5h")).dt.tz_localize("Asia/Seoul")  # the day before, in UTC
    found = sample_manifest(
        manifest(tmp_path, date=values), TREE, column="animal", patient="patient", by_date=ByDate("date", "2018-04-01")
    )
    assert len(found.later) == sum(COUNTS) - 90


def test_numbers_that_are_no_days_are_refused(tmp_path: Path) -> None:
    path = manifest(tmp_path, date=np.arange(sum(COUNTS), dtype=np.int32))
    with pytest.raises(InputError, match="this is not a date"):
        drawn(path, by_date=ByDate("date", "2018-04-01"))


def straddlers(folder: Path) -> Path:
    patients = [f"p{i}" for i in range(sum(COUNTS))]
    patients[100], patients[110] = "p7", "p3"
    return manifest(folder, patient=patients)


def test_patients_on_both_sides_of_the_date_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 patients are on both sides of the split date: p\d, p\d"):
        drawn(straddlers(tmp_path), by_date=ByDate("date", "2018-04-01"))


def test_a_patient_with_spaces_around_the_name_is_the_same(tmp_path: Path) -> None:
    patients = [f"p{i}" for i in range(sum(COUNTS))]
    patients[100], patients[110] = "p7 ", " p3"
    with pytest.raises(InputError, match="2 patients are on both sides"):
        drawn(manifest(tmp_path, patient=patients), by_date=ByDate("date", "2018-04-01"))


def test_earlier_images_of_such_patients_can_be_left_out(tmp_path: Path) -> None:
    found = sample_manifest(
        straddlers(tmp_path),
        TREE,
        column="animal",
        patient="patient",
        by_date=ByDate("date", "2018-04-01", "leave_out"),
    )
    assert all(not {3, 7} & set(rows.tolist()) for rows in found.train.values())
    assert {100, 110} <= set(found.later.tolist())


def test_a_date_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="YYYY-MM-DD"):
        drawn(manifest(tmp_path), by_date=ByDate("date", "July 2018"))


def test_a_row_without_a_patient_is_told(tmp_path: Path) -> None:
    patients = [f"p{i}" for i in range(sum(COUNTS))]
    patients[5] = None  # type: ignore[call-overload]
    with pytest.raises(InputError, match="1 rows have no patient"):
        drawn(manifest(tmp_path, patient=patients), by_date=ByDate("date", "2018-04-01"))


def test_a_missing_column_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column 'animals'; did you mean 'animal'"):
        sample_manifest(manifest(tmp_path), TREE, column="animals", patient="patient")


def test_a_file_that_is_no_table_is_told(tmp_path: Path) -> None:
    (tmp_path / "list.parquet").write_text("no")
    with pytest.raises(InputError, match="the manifest cannot be read"):
        sample_manifest(tmp_path / "list.parquet", TREE, column="animal", patient="patient")
