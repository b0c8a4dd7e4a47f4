"""Folds of a manifest: patients whole, labels alike, the same under one seed, or refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from medkit.data.folds import split
from medkit.data.source import read_table
from medkit.errors import InputError


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """300 cases of 100 patients, 30 of them with a bleed; one cell has a comma and quotes."""
    lines = ["case,patient,label,note"]
    for i in range(300):
        lines.append(f'{i:03d},{i // 3:03d},{int(i // 3 < 30 and i % 3 == 1)},"a, ""b"""')
    path = tmp_path / "cases.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_patients_stay_whole_and_folds_have_the_labels_of_the_whole(manifest: Path) -> None:
    split(manifest, stratify="label", folds=5)
    table = read_table(manifest)
    assert table.groupby("patient")["fold"].nunique().max() == 1
    patients = table.groupby("patient").agg(fold=("fold", "first"), label=("label", "max"))
    assert Counter(patients["fold"]) == dict.fromkeys("12345", 20)
    assert Counter(patients[patients["label"] == "1"]["fold"]) == dict.fromkeys("12345", 6)


def test_shares_of_patients_are_kept_in_every_class(manifest: Path) -> None:
    made = split(manifest, stratify="label", shares=(0.6, 0.1, 0.3))
    assert made.groups == {"train": 60, "val": 10, "test": 30}
    assert made.strata["label = 1"] == {"train": 18, "val": 3, "test": 9}


def test_all_other_columns_stay_as_they_were(manifest: Path) -> None:
    before = read_table(manifest)
    split(manifest)
    after = read_table(manifest)
    assert list(after.columns) == [*before.columns, "fold"]
    assert after[list(before.columns)].equals(before)


def test_a_seed_gives_the_same_folds_whatever_the_order_of_rows(manifest: Path, tmp_path: Path) -> None:
    lines = manifest.read_text().splitlines()
    other = tmp_path / "other.csv"
    other.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    folds = split(manifest, stratify="label", seed=3).of_rows
    assert split(other, stratify="label", seed=3).of_rows == folds[::-1]
    assert split(manifest, stratify="label", seed=4, column="other").of_rows != folds


def test_a_measurement_is_stratified_by_ranges(tmp_path: Path) -> None:
    ages = np.linspace(1, 216, 50)
    path = tmp_path / "cases.csv"
    path.write_text("patient,age\n" + "".join(f"p{i},{age}\n" for i, age in enumerate(ages)))
    made = split(path, stratify="age", folds=2)
    table = read_table(path)
    means = table.assign(age=table["age"].astype(float)).groupby("fold")["age"].mean()
    assert len(made.strata) == 5
    assert abs(means["1"] - means["2"]) < 10


def test_numbers_with_decimal_commas_are_not_taken_for_classes(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    path.write_text("patient,age\n" + "".join(f'p{i},"{i},5"\n' for i in range(9)) + "p9,60\n")
    with pytest.raises(InputError, match=r"'age' has decimal commas, such as '0,5'; write '0\.5'"):
        split(path, stratify="age")
    path.write_text("patient,site\n" + "".join(f'p{i},"{"ab"[i % 2]},5"\n' for i in range(10)))
    assert set(split(path, stratify="site").strata) == {"site = a,5", "site = b,5"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 101}, "100 patients are too few for 101 folds"),
        ({"folds": 40, "stratify": "label"}, "'label = 1' has too few patients for 40 folds: 30.*--folds 30"),
        ({"by": "label"}, "patient '000' is in '0' and in '1'; a patient must not be in two folds"),
        ({"stratify": "lable"}, "no column 'lable'; did you mean 'label'"),
        ({"column": "note"}, "the column 'note' exists already; --column NAME"),
        ({"shares": (0.5, 0.1, 0.1)}, "three numbers that add up to 1"),
        ({"stratify": "note", "by": "case"}, "patient '000' is in '000' and in '001'"),
    ],
)
def test_what_cannot_be_split_is_refused_and_the_manifest_stays(
    manifest: Path, options: dict[str, object], message: str
) -> None:
    before = manifest.read_bytes()
    with pytest.raises(InputError, match=message):
        split(manifest, **options)
    assert manifest.read_bytes() == before


def test_unlabelled_patients_are_dealt_by_themselves_and_told(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    path.write_text("patient,label\n" + "".join(f"p{i},{['0', '1', ''][i % 3]}\n" for i in range(30)))
    made = split(path, stratify="label", folds=2)
    assert made.strata["no label"] == {"1": 5, "2": 5}
    assert "10 of 30 patients have no label" in made.told[0]


def test_several_classes_a_case_are_dealt_evenly_the_rarest_first(tmp_path: Path) -> None:
    rows = [
        f"{i:03d},{i // 2:03d},{int(i % 10 == 0)},{int(i % 2 == 0)},{'rare' * (i % 10 == 0) or 'none'}"
        for i in range(200)
    ]
    (tmp_path / "cases.csv").write_text("case,patient,rare,often,found\n" + "\n".join(rows) + "\n")
    made = split(tmp_path / "cases.csv", stratify="rare,often", folds=5, out=tmp_path / "split.csv")
    assert made.strata["with rare"] == dict.fromkeys("12345", 4)
    assert made.strata["with often"] == dict.fromkeys("12345", 20)
    assert "rows with rare: 1 4, 2 4, 3 4, 4 4, 5 4" in made.told
    (tmp_path / "joined.csv").write_text((tmp_path / "cases.csv").read_text().replace("rare\n", "rare;often\n"))
    again = split(tmp_path / "joined.csv", stratify="found", folds=5)
    assert again.strata["with often"] == dict.fromkeys("12345", 4)


def test_every_class_of_several_has_its_share_in_every_fold(tmp_path: Path) -> None:
    """Not only the rarest that a patient has: of each class, a fold of a fifth has a fifth of its patients."""
    rng = np.random.default_rng(0)
    flags = rng.random((200, 5)) < [0.1, 0.2, 0.3, 0.4, 0.5]
    names = [f"c{k}" for k in range(5)]
    lines = [f"{i},{','.join(str(int(flag)) for flag in row)}" for i, row in enumerate(flags)]
    (tmp_path / "cases.csv").write_text("\n".join([f"patient,{','.join(names)}", *lines]) + "\n")
    made = split(tmp_path / "cases.csv", stratify=",".join(names), folds=5)
    for name, count in zip(names, flags.sum(0).tolist(), strict=True):
        each = made.strata[f"with {name}"]
        assert max(abs(each[fold] - count / 5) for fold in "12345") <= 1
    assert max(abs(made.groups[fold] - 40) for fold in "12345") <= 2
    again = split(tmp_path / "cases.csv", stratify=",".join(names), folds=5, column="again", seed=1)
    assert again.of_rows != made.of_rows
    (tmp_path / "turned.csv").write_text("\n".join([f"patient,{','.join(names)}", *lines[::-1]]) + "\n")
    assert split(tmp_path / "turned.csv", stratify=",".join(names), folds=5).of_rows == made.of_rows[::-1]


def test_a_small_fold_has_one_of_a_rare_class(tmp_path: Path) -> None:
    """Five patients have it: 3.5 for train, half a one for val and one for test."""
    lines = [f"{i},{int(i < 5)},{int(i % 2)}" for i in range(50)]
    (tmp_path / "cases.csv").write_text("\n".join(["patient,rare,often", *lines]) + "\n")
    made = split(tmp_path / "cases.csv", stratify="rare,often")
    assert made.strata["with rare"] == {"train": 3, "val": 1, "test": 1}


def test_a_class_that_fewer_have_than_there_are_folds_is_refused(tmp_path: Path) -> None:
    rows = [f"{i},{i},{int(i < 2)},{i % 2}" for i in range(20)]
    (tmp_path / "cases.csv").write_text("case,patient,rare,often\n" + "\n".join(rows) + "\n")
    with pytest.raises(InputError, match="'with rare' has too few patients for 3 folds: 2"):
        split(tmp_path / "cases.csv", stratify="rare,often")


def test_all_groups_of_patients_that_look_alike_are_counted(tmp_path: Path) -> None:
    names = ["P-01", "p01", "P02", "P 02", "03", "3", "P04", "p-4", "P5", "p5", "P6", "P7"]
    rows = "".join(f"{i}.png,{name}\n" for i, name in enumerate(names))
    (tmp_path / "m.csv").write_text(f"image,patient\n{rows}", encoding="utf-8")
    (told,) = split(tmp_path / "m.csv").told
    assert (
        told
        == "'P-01' and 'p01'; 'P02' and 'P 02'; '03' and '3', and 2 more look alike and count as different patients"
    )
