"""A tree of images as a manifest: what is taken, what is left out, and why."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import check_mixed_tree
from medkit_benchmarks import mixed_tree

from medkit.data.io import read_volume
from medkit.data.nifti import write_nifti
from medkit.data.tree_labels import Labels
from medkit.data.tree_series import is_sharp
from medkit.data.tree_table import Choices
from medkit.data.tree_write import Written, write
from medkit.data.volume import Volume
from medkit.errors import InputError

PLACES = [5.0 * z for z in range(8)]


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def made(tmp_path: Path, choices: Choices | None = None, **more: object) -> tuple[Written, list[dict[str, str]]]:
    written = write(tmp_path / "tree", tmp_path / "cases.csv", choices or Choices(), **more)
    return written, lines(tmp_path / "cases.left_out.csv")


def test_the_right_series_of_each_study_is_taken_and_a_reason_given_for_each_other_one(tmp_path: Path) -> None:
    check_mixed_tree(tmp_path, studies=100)


@pytest.mark.parametrize("name", ["folder", "list"])
def test_what_is_taken_can_be_read(tmp_path: Path, name: str) -> None:
    tree = tmp_path / "tree"
    mixed_tree.series(tree / "a", "1.1", "1.1.2", "P", PLACES)
    if name == "list":
        mixed_tree.series(tree / "a", "1.1", "1.1.1", "P", [0.0], kind=("ORIGINAL", "PRIMARY", "LOCALIZER"), start=50)
    (row,) = made(tmp_path)[0].rows
    assert Path(row["image"]).suffix == {"folder": "", "list": ".txt"}[name]
    volume = read_volume(row["image"])
    assert volume.voxels.shape == (row["slices"], row["rows"], row["columns"])


def test_a_series_in_two_folders_is_one_case(tmp_path: Path) -> None:
    mixed_tree.series(tmp_path / "tree" / "DIR0", "1.1", "1.1.2", "P", PLACES)
    mixed_tree.series(tmp_path / "tree" / "DIR1", "1.1", "1.1.2", "P", [40.0, 45.0], start=8)
    (row,) = made(tmp_path)[0].rows
    assert row["slices"] == 10
    assert read_volume(row["image"]).voxels.shape[0] == 10


def test_a_thickness_that_is_wanted_comes_before_the_number_of_slices(tmp_path: Path) -> None:
    mixed_tree.series(tmp_path / "tree" / "thin", "1.1", "1.1.2", "P", [1.0 * z for z in range(40)], thickness="1")
    mixed_tree.series(tmp_path / "tree" / "thick", "1.1", "1.1.3", "P", PLACES, number=3)
    written, left_out = made(tmp_path, Choices(thickness=5))
    assert written.rows[0]["thickness_mm"] == 5
    assert left_out[0]["reason"] == "series 3 'Head H31s' was chosen: it is 5 mm thick, this one 1 mm"


def test_a_series_with_a_gap_is_taken_where_that_is_allowed(tmp_path: Path) -> None:
    mixed_tree.series(tmp_path / "tree" / "a", "1.1", "1.1.2", "P", [*PLACES[:3], *(p + 10 for p in PLACES[3:])])
    with pytest.raises(InputError, match=r"1 gaps.*--allow-gaps"):
        made(tmp_path)
    assert not list(tmp_path.glob("cases*"))
    assert "read with gaps" in made(tmp_path, Choices(allow_gaps=True))[0].rows[0]["note"]


def test_an_image_cut_short_leaves_its_series_out_by_its_name(tmp_path: Path) -> None:
    for name in "ab":
        mixed_tree.series(tmp_path / "tree" / name, f"1.{ord(name)}", f"1.{ord(name)}.2", name, PLACES)
    (tmp_path / "tree" / "a" / "IM00007").write_bytes(b"")
    written, left_out = made(tmp_path)
    assert [row["patient"] for row in written.rows] == ["b"]
    assert [line["kind"] for line in left_out] == ["damaged", "damaged"]
    assert all("IM00007" in line["place"] + line["reason"] for line in left_out)


def test_kernels_are_told_apart_by_the_names_of_their_makers() -> None:
    sharp = ["H70s", "B70f", "Hr64f", "BONEPLUS", "LUNG", "FC81", "YC"]
    soft = ["H31s", "B30f", "J40s", "Br40d", "STANDARD", "SOFT", "FC13", "UB", "C", "", "what"]
    assert [name for name in [*sharp, *soft] if is_sharp(name)] == sharp


# -- files and masks -----------------------------------------------------------------------------------------------


@pytest.fixture
def nifti(tmp_path: Path) -> Path:
    affine = np.array([[0, 0, 0.5, 0], [0, 0.5, 0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1]])
    for name in ("001", "002", "010"):
        voxels = np.full((4, 6, 5), -1000, np.int16)
        write_nifti(Volume(voxels, affine), tmp_path / "tree" / f"{name}_0000.nii.gz")
        if name != "010":
            write_nifti(Volume(voxels * 0, affine), tmp_path / "tree" / "labels" / f"{name}.nii.gz")
    return tmp_path


def test_sizes_of_nifti_are_those_that_are_read(nifti: Path) -> None:
    written, left_out = made(nifti)
    row = written.rows[0]
    assert read_volume(row["image"]).voxels.shape == (row["slices"], row["rows"], row["columns"])
    assert (row["slice_mm"], row["pixel_mm"]) == (3.0, 0.5)
    assert [line["kind"] for line in left_out] == ["mask", "mask"]
    assert "each counts as a patient of its own" in written.told[0]


def test_masks_go_to_the_images_of_their_name(nifti: Path) -> None:
    written, _ = made(nifti, Choices(masks=nifti / "tree" / "labels"))
    assert [row["mask"] and Path(row["mask"]).name for row in written.rows] == ["001.nii.gz", "002.nii.gz", None]
    assert "1 cases have no mask: 010_0000" in written.told


def of_two_patients(folder: Path, *masks: str) -> Choices:
    """Images ``A/001`` and ``B/001``, and the masks of these names."""
    for place, name in (*(("tree", image) for image in ("A/001", "B/001")), *(("masks", mask) for mask in masks)):
        write_nifti(
            Volume(np.zeros((4, 6, 5), np.int16), np.diag([3.0, 0.5, 0.5, 1])), folder / place / f"{name}.nii.gz"
        )
    return Choices(masks=folder / "masks", patient="folder")


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        (("A/001", "B/001"), ["masks/A/001.nii.gz", "masks/B/001.nii.gz"]),
        (("B/001",), [None, "masks/B/001.nii.gz"]),
        (("B/001_seg", "A/001_seg"), ["masks/A/001_seg.nii.gz", "masks/B/001_seg.nii.gz"]),
    ],
)
def test_masks_of_one_name_go_to_the_images_of_their_subfolder(tmp_path: Path, masks, expected) -> None:
    written, _ = made(tmp_path, of_two_patients(tmp_path, *masks))
    found = [row["mask"] and Path(row["mask"]).relative_to(tmp_path.resolve()).as_posix() for row in written.rows]
    assert found == expected


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (("001",), "this mask has the name of two images: 'A/001.nii.gz' and 'B/001.nii.gz'"),
        (("x/001", "y/001"), "two masks are named '001', like the image 'A/001.nii.gz'"),
    ],
)
def test_a_mask_that_may_belong_to_two_patients_is_refused(tmp_path: Path, masks, message: str) -> None:
    with pytest.raises(InputError, match=message):
        made(tmp_path, of_two_patients(tmp_path, *masks))


def test_pictures_beside_scans_are_told(nifti: Path) -> None:
    cv2.imwrite(str(nifti / "tree" / "hand.png"), np.zeros((8, 8), np.uint8))
    written, _ = made(nifti)
    assert "scans (3) and PNG pictures (1)" in written.told[-1]


# -- labels --------------------------------------------------------------------------------------------------------


def labels(folder: Path, text: str) -> Labels:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return Labels(path)


def test_labels_are_joined_by_exact_text_and_told_both_ways(nifti: Path) -> None:
    written, left_out = made(nifti, labels=labels(nifti, "id,label,patient\n001,1,A\n2,0,A\n010,,B\n"))
    by_case = {row["case"]: row for row in written.rows}
    assert by_case["001_0000"]["label"] == "1"
    assert [row["label"] for row in written.rows] == ["1", None, None]
    assert [row["patient"] for row in written.rows] == ["A", "002_0000", "B"]
    assert "labels: 'id' is the id of 2 of 3 cases" in written.told
    assert any("1 cases have no row: 002; '002' looks like '2' but is different text" in text for text in written.told)
    assert [line["reason"] for line in left_out if line["kind"] == "label"] == ["no case has the id '2'"]


def test_labels_of_patients_go_to_all_their_cases(tmp_path: Path) -> None:
    for study in "12":
        mixed_tree.series(tmp_path / "tree" / study, f"1.{study}", f"1.{study}.2", "P7", PLACES)
    written, _ = made(tmp_path, labels=labels(tmp_path, "PatientID,label\nP7,1\n"))
    assert [row["label"] for row in written.rows] == ["1", "1"]
    assert "labels: 2 cases share 1 ids" in written.told


def test_patients_that_look_alike_are_told(tmp_path: Path) -> None:
    for study, patient in (("1", "p07"), ("2", "P7")):
        mixed_tree.series(tmp_path / "tree" / study, f"1.{study}", f"1.{study}.2", patient, PLACES)
    written, _ = made(tmp_path)
    assert any(text.startswith("patients 'p07' and 'P7' look alike and count as 2;") for text in written.told)


def test_labels_are_joined_by_names_of_files_with_their_suffix_before_patients(nifti: Path) -> None:
    names = sorted(path.name for path in (nifti / "tree").rglob("*.nii.gz"))
    text = "".join(f"P1,{name},1\n" for name in names)
    written, _ = made(nifti, labels=labels(nifti, f"patient,file,label\n{text}"))
    assert [(row["patient"], row["label"]) for row in written.rows] == [("P1", "1")] * len(written.rows)
    assert any(told.startswith("labels: 'file' is the file of") for told in written.told)


def test_patients_of_the_labels_that_look_alike_are_told(nifti: Path) -> None:
    rows = "".join(
        f"{name}_0000.nii.gz,1,{patient}\n" for name, patient in (("001", "p07"), ("002", "P7"), ("010", "p8"))
    )
    written, _ = made(nifti, labels=labels(nifti, f"file,label,patient\n{rows}"))
    assert any(text.startswith("patients 'p07' and 'P7' look alike and count as 2;") for text in written.told)


def test_files_whose_patient_the_labels_name_are_not_said_to_be_of_nobody(nifti: Path) -> None:
    def said(text: str) -> list[str]:
        (nifti / "cases.csv").unlink(missing_ok=True)
        (nifti / "cases.left_out.csv").unlink(missing_ok=True)
        return [told for told in made(nifti, labels=labels(nifti, text))[0].told if "do not say whose" in told]

    assert not said("id,label,patient\n001,1,a\n002,1,b\n010,1,c\n")
    assert said("id,label,patient\n001,1,a\n002,1,b\n010,1,\n")[0].startswith("1 files do not say whose they are")


def test_an_id_that_is_listed_twice_names_its_column_and_the_option(nifti: Path) -> None:
    with pytest.raises(InputError) as refused:
        made(nifti, labels=labels(nifti, "scan,patient,label\n001,P1,1\n002,P1,0\n"))
    assert refused.value.hint == "it is also in line 2 of column 'patient'; --id names another column of ids"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\n001,1\n001,0\n", "'001' is listed twice; it is also in line 2"),
        ("id,label\n1,1\n2,0\n", "no id in 'id' .* matches a case.*'001' looks like '1'"),
        ("id,image\n001,x\n", "the manifest has its own column 'image'"),
        ("id,label\n001,1\n,0\n", "no value in 'id'"),
    ],
)
def test_labels_that_cannot_be_joined_are_refused_and_nothing_is_written(nifti: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        made(nifti, labels=labels(nifti, text))
    assert not list(nifti.glob("cases*"))


# -- real images ---------------------------------------------------------------------------------------------------


def test_real_images_are_chosen_and_all_others_explained(shared: Path, tmp_path: Path) -> None:
    written = write(shared / "realdata", tmp_path / "cases.csv", Choices(patient="folder"))
    assert [row["case"] for row in written.rows if row.get("series")] == ["head_ct_ge_tilt"]
    kinds = Counter(line["kind"] for line in lines(tmp_path / "cases.left_out.csv"))
    assert {"few slices", "copy", "secondary capture", "other modality", "mask", "no image"} <= kinds.keys()
    for row in written.rows:
        volume = read_volume(row["image"])
        assert volume.voxels.shape == (row["slices"], row["rows"], row["columns"]), row["case"]


def test_real_series_with_a_missing_slice_are_left_out_by_it(shared: Path, tmp_path: Path) -> None:
    folder = shared / "realdata" / "dicom_missing_slice_geometry"
    with pytest.raises(InputError, match="1 gaps"):
        write(folder, tmp_path / "cases.csv", Choices(slices=3))
