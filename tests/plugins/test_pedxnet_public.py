"""Public sets in their own layout: labels, sex, patients, and what is missing."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from medkit_pedxnet.sources_public import GrazWrists, RSNABoneAge
from typer.testing import CliRunner

from medkit.cli.app import app
from medkit.data.dataset import Dataset
from medkit.data.source import ManifestSource
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


# -- as manifests --------------------------------------------------------------------------------------------------


@pytest.fixture
def challenge(tmp_path: Path) -> Path:
    """The bone age challenge as it is unpacked: three tables, validation in two folders, test as a table of Excel."""
    root = tmp_path / "challenge"
    tables = {
        "train.csv": "id,boneage,male\n1377,180,False\n1378,12,True\n",
        "Bone Age Validation Set/Validation Dataset.csv": "Image ID,male,Bone Age (months)\n1386,TRUE,30\n1392,FALSE,162\n",
        "boneage-test-dataset.csv": "Case ID,Sex\n4360,M\n",
    }
    images = [
        "boneage-training-dataset/boneage-training-dataset/1377",
        "boneage-training-dataset/boneage-training-dataset/1378",
    ]
    images += [f"Bone Age Validation Set/boneage-validation-dataset-{k}/{n}" for k, n in ((1, 1386), (2, 1392))]
    images += ["boneage-test-dataset/4360"]
    for name, text in tables.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name in images:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.png").write_bytes(IMAGE)
    (root / "Bone age ground truth.xlsx").write_bytes(b"PK")
    return root


def data(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def test_the_bone_age_challenge_becomes_a_manifest_that_a_run_reads(challenge: Path, tmp_path: Path) -> None:
    done = data("rsna-bone-age", challenge, "--out", tmp_path / "ages.csv")
    assert done.exit_code == 0
    assert "no table of the set 'test' is here: save the one of Excel as CSV" in done.output
    source = ManifestSource(tmp_path / "ages.csv", label="label", case="case")
    found = {case.patient: (case.fold, case.label, case.fields["sex"]) for case in source.cases()}
    assert found == {
        "1377": ("train", 180.0, "0.0"),
        "1378": ("train", 12.0, "1.0"),
        "1386": ("val", 30.0, "1.0"),
        "1392": ("val", 162.0, "0.0"),
    }
    assert source.load(source.cases()[3]).image.voxels.shape == (1, 8, 8)


def test_the_published_test_table_saved_as_csv_is_the_test_fold(challenge: Path, tmp_path: Path) -> None:
    text = "Case ID,Sex,Ground truth bone age (months)\n4360,M,168.93\n"
    (challenge / "Bone age ground truth.csv").write_text(text)
    assert "no table" not in data("rsna-bone-age", challenge, "--out", tmp_path / "ages.csv").output
    assert "test/4360,4360,rsna_bone_age,test," in (tmp_path / "ages.csv").read_text()


def test_a_table_without_its_images_and_a_folder_without_tables_are_refused(challenge: Path, tmp_path: Path) -> None:
    shutil.rmtree(challenge / "boneage-training-dataset")
    done = data("rsna-bone-age", challenge, "--out", tmp_path / "ages.csv")
    assert "no folder named as one of 'train' has PNG files" in str(done.exception)
    (tmp_path / "empty").mkdir()
    done = data("rsna-bone-age", tmp_path / "empty", "--out", tmp_path / "none.csv")
    assert "no table of the bone age challenge" in str(done.exception)
    assert not (tmp_path / "ages.csv").exists()


def test_grazpedwri_becomes_a_manifest_with_its_other_columns(tmp_path: Path) -> None:
    rows = [(f"{i:04d}_1297860395_0{k}_WRI-L1_M014", "1.0" if i % 2 else "") for i in range(30) for k in (1, 2)]
    (tmp_path / "graz").mkdir()
    wrists(tmp_path / "graz", rows)
    table = (tmp_path / "graz" / "dataset.csv").read_text().splitlines()
    lines = [f"{table[0]},age,laterality", *(f"{line},{i / 10},L" for i, line in enumerate(table[1:]))]
    (tmp_path / "graz" / "dataset.csv").write_text("\n".join(lines) + "\n")
    done = data("grazpedwri", tmp_path / "graz", "--out", tmp_path / "wrists.csv")
    assert "60 cases of 30 patients" in done.output
    source = ManifestSource(tmp_path / "wrists.csv", label="label", case="case")
    cases = {case.id: case for case in source.cases()}
    assert [cases[rows[k][0]].label for k in (0, 2)] == [0.0, 1.0]
    assert cases[rows[3][0]].fields["age"] == "0.3"
    assert len({(case.patient, case.fold) for case in cases.values()}) == 30
