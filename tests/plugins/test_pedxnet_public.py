"""Public sets in their own layout: labels, sex, patients, and what is missing."""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from medkit_pedxnet.sources_public import GrazWrists, RSNABoneAge

from medkit.data.dataset import Dataset
from medkit.errors import InputError
from medkit.testing import check_source

IMAGE = cv2.imencode(".png", np.arange(64, dtype=np.uint8).reshape(8, 8))[1].tobytes()


def bone_age(folder: Path, train: str, test: str = "9,120,True\n") -> RSNABoneAge:
    for fold, text in (("train", train), ("test", test)):
        (folder / f"{fold}.csv").write_text("id,boneage,male\n" + text)
        (folder / fold).mkdir()
        for line in text.splitlines():
            (folder / fold / f"{line.split(',')[0]}.png").write_bytes(IMAGE)
    return RSNABoneAge(str(folder), {"train": "train.csv", "test": "test.csv"}, {"train": "train", "test": "test"})


def test_bone_age_in_months_is_the_label_and_sex_a_field(tmp_path: Path) -> None:
    source = bone_age(tmp_path, "1,180,False\n2,12,True\n")
    check_source(source)
    found = {case.id: (case.label, case.fields["sex"], case.fold) for case in source.cases()}
    assert found == {
        "train/1": (180.0, 0.0, "train"),
        "train/2": (12.0, 1.0, "train"),
        "test/9": (120.0, 1.0, "test"),
    }


def test_bone_age_carries_sex_in_its_batches(tmp_path: Path) -> None:
    dataset = Dataset(bone_age(tmp_path, "1,180,F\n2,12,M\n"), {"train": {"fold": "train"}}, fields=("sex",))
    assert [case.fields["sex"] for case in dataset.cases("train")] == [0.0, 1.0]


def test_rows_without_sex_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.csv: 2 rows have no sex: 4, 7"):
        bone_age(tmp_path, "1,180,True\n4,100,\n7,90,unknown\n").cases()


def test_rows_without_bone_age_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 rows have no bone age: 4"):
        bone_age(tmp_path, "1,180,True\n4,,True\n").cases()


def test_ages_in_years_are_questioned(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="the largest bone age is 15: are these years"):
        bone_age(tmp_path, "1,15,True\n2,1.5,False\n", "9,10,True\n").cases()


def test_ages_in_months_are_not(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bone_age(tmp_path, "1,180,True\n").cases()


def test_images_of_bone_age_that_are_not_there_are_named(tmp_path: Path) -> None:
    source = bone_age(tmp_path, "1,180,True\n")
    (tmp_path / "train" / "1.png").unlink()
    with pytest.raises(InputError, match=r"1 of 2 images do not exist: .*1\.png"):
        source.cases()


def test_folds_of_csv_and_images_have_to_agree(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'images'"):
        RSNABoneAge(str(tmp_path), {"train": "a.csv"}, {"test": "a"})


def wrists(folder: Path, rows: list[tuple[str, str]]) -> GrazWrists:
    lines = ["filestem,fracture_visible", *(f"{stem},{visible}" for stem, visible in rows)]
    (folder / "dataset.csv").write_text("\n".join(lines) + "\n")
    (folder / "images_part1").mkdir()
    for stem, _ in rows:
        (folder / "images_part1" / f"{stem}.png").write_bytes(IMAGE)
    return GrazWrists(str(folder))


def test_wrists_have_their_fracture_and_patient(tmp_path: Path) -> None:
    rows = [(f"{i:04d}_1297860395_0{k}_WRI-L1_M014", "1.0" if i % 2 else "") for i in range(30) for k in (1, 2)]
    source = wrists(tmp_path, rows)
    check_source(source)
    found = source.cases()
    assert [case.label for case in found[:4]] == [0.0, 0.0, 1.0, 1.0]
    assert found[2].patient == found[3].patient == "0001"


def test_both_images_of_a_wrist_fall_into_one_fold(tmp_path: Path) -> None:
    rows = [(f"{i:04d}_1297860395_0{k}_WRI-L1_M014", "1.0" if i % 2 else "0") for i in range(30) for k in (1, 2)]
    splits = {fold: {"fold": fold} for fold in ("train", "val", "test")}
    dataset = Dataset(wrists(tmp_path, rows), splits)
    assert sum(len({case.patient for case in dataset.cases(fold)}) for fold in splits) == 30


def test_a_name_without_a_patient_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"have no patient in their name.*: wrist7"):
        wrists(tmp_path, [("wrist7", "1")]).cases()


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    source = wrists(tmp_path, [("0001_1", "1")])
    (tmp_path / "dataset.csv").write_text("filestem,fracture\n0001_1,1\n")
    with pytest.raises(InputError, match="no column 'fracture_visible'"):
        source.cases()


@pytest.mark.parametrize(
    "table", ["Image ID,male,Bone Age (months)\n9,TRUE,120\n", "Case ID,Sex,Ground truth bone age (months)\n9,M,120\n"]
)
def test_columns_have_the_names_of_each_published_table(tmp_path: Path, table: str) -> None:
    (tmp_path / "t.csv").write_text(table)
    source = RSNABoneAge(tmp_path, {"test": "t.csv"}, {"test": "t"})
    assert [(c.patient, c.label, c.fields["sex"]) for c in source.of("test", tmp_path / "t.csv")] == [("9", 120, 1)]


def test_images_of_a_fold_may_lie_in_two_folders_as_those_of_validation_do(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("Image ID,male,Bone Age (months)\n1386,TRUE,30\n1400,FALSE,90\n")
    for number, name in ((1, "1386"), (2, "1400")):
        folder = tmp_path / "set" / f"boneage-validation-dataset-{number}"
        folder.mkdir(parents=True)
        (folder / f"{name}.png").write_bytes(b"")
    source = RSNABoneAge(tmp_path, {"val": "v.csv"}, {"val": "set"})
    assert [case.patient for case in source.cases()] == ["1386", "1400"]
