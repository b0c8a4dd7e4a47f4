"""Public data sets' folders as manifests, each on a tree made like the published one that may only be read."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
from medkit_benchmarks import mixed_tree

from medkit.data.io import read_volume
from medkit.data.layouts import rsna_hemorrhage, write_manifest
from medkit.data.layouts_bleeds import BHSD_CLASSES, bhsd, hemseg_200, instance_2022
from medkit.data.layouts_cq500 import CONTRAST, FINDINGS, READERS, cq500
from medkit.data.layouts_fracatlas import fracatlas
from medkit.data.layouts_mura import mura
from medkit.data.source import ManifestSource, read_table
from medkit.errors import InputError
from medkit.protocols.classes import Classes
from medkit.testing import check_source

PLACES = [5.0 * z for z in range(8)]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder for a data set; nothing in it may have changed after the test, and it cannot be written to."""
    folder = tmp_path / "set"
    folder.mkdir()
    yield folder  # pytest takes the folder away afterwards
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def only_read(folder: Path) -> dict[str, int]:
    """Take the right to write away, and say what is there."""
    there = {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return there


def unchanged(folder: Path, there: dict[str, int]) -> bool:
    return there == {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def nifti(path: Path, *, values: tuple[int, ...] = (0,), air: bool = False) -> None:
    voxels = np.full((8, 8, 3), -1000 if air else 0, np.int16)
    for i, value in enumerate(values):
        voxels[i, 2:4, 1] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([0.5, 0.5, 5.0, 1])), path)


def png(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((12, 10), value, np.uint8))


# -- CQ500 ---------------------------------------------------------------------------------------------------------


def scan(folder: Path, number: int, *series: str) -> None:
    """One scan of CQ500, with series of these names, the later ones with fewer slices."""
    top = folder / f"CQ500CT{number} CQ500CT{number}" / "Unknown Study"
    for at, name in enumerate(series):
        uid = f"1.{number + 1}.{at + 1}"
        places = [5.0 * z for z in range(10 - at)]
        mixed_tree.series(top / name, f"1.{number + 1}", uid, "anonymous", places, number=at + 1)


def reads(folder: Path, rows: dict[int, dict[str, str]]) -> None:
    """A table of readers in which a finding that is named has the three marks, and any other none."""
    names = [f"{reader}:{finding}" for reader in READERS for finding in (*FINDINGS, "BleedLocation-Left")]
    lines = [["name", "Category", *names]]
    for number, seen in rows.items():
        marks = [seen.get(name.partition(":")[2], "000")[READERS.index(name[:2])] for name in names]
        lines.append([f"CQ500-CT-{number}", "B1", *marks])
    with (folder / "reads.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)


def test_cq500_gives_one_series_a_scan_with_what_two_of_three_readers_saw(root: Path, tmp_path: Path) -> None:
    scan(root, 0, "CT PLAIN THIN", "CT Plain")
    scan(root / "qct01", 12, "CT POST CONTRAST", "CT Pre Contrast")
    reads(root, {0: {"ICH": "110", "SDH": "101", "IPH": "010"}, 12: {"ICH": "001"}, 13: {}})
    there = only_read(root)
    made = cq500(root, tmp_path / "cq500.csv")
    assert unchanged(root, there)
    first, second = made.rows
    assert (first["patient"], first["label"], first["votes"], first["batch"]) == ("CQ500CT0", 1, 2, "B1")
    assert (first["subdural"], first["intraparenchymal"], first["center"]) == (1, 0, "cq500")
    assert (second["patient"], second["label"], second["votes"]) == ("CQ500CT12", 0, 1)
    assert [Path(row["image"]).name for row in made.rows] == ["CT PLAIN THIN", "CT Pre Contrast"]
    left_out = read_table(tmp_path / "cq500.left_out.csv")
    assert sorted(left_out["kind"]) == ["another chosen", "label", "no image", "skipped"]
    assert any("no case: CQ500CT13" in line for line in made.told)
    source = ManifestSource(tmp_path / "cq500.csv", case="case", label="label")
    assert [case.label for case in source.cases()] == [1.0, 0.0]
    assert {case.fold for case in source.cases()} <= {"train", "val", "test"}


@pytest.mark.parametrize(
    ("names", "with_contrast"),
    [
        (
            "CT POST CONTRAST|CT 5mm POST CONTRAST|CT Thin Contrast|CT CONTRAST-2|CT CECT THIN|CT ORAL IV|CT C THIN|CT C-2",
            True,
        ),
        (
            "CT PLAIN THIN|CT PRE CONTRAST 5MM STD|CT 5 MM PRE CONTRAST|CT 0.625mm|CT 4cc sec 150cc D3D on|CT I To S",
            False,
        ),
    ],
)
def test_published_names_of_cq500_s_series_say_which_have_contrast_medium(names: str, with_contrast: bool) -> None:
    for name in names.split("|"):
        assert bool(re.search(CONTRAST, f"Head\n{name}")) == with_contrast, name


def test_cq500_without_a_reader_s_entry_is_refused(root: Path, tmp_path: Path) -> None:
    scan(root, 0, "CT Plain")
    reads(root, {0: {"ICH": "11 "}})
    with pytest.raises(InputError, match=r"reads\.csv:2: 'R3:ICH' is empty: a reader's entry is 0 or 1"):
        cq500(root, tmp_path / "cq500.csv")
    assert not list(tmp_path.glob("cq500*"))


# -- MURA ----------------------------------------------------------------------------------------------------------


def test_mura_gives_the_label_of_the_study_and_the_patient_of_the_path(root: Path, tmp_path: Path) -> None:
    folder = root / "MURA-v1.1"
    for at, name in enumerate(("patient00011/study1_negative/image1", "patient00011/study1_negative/image2",
                               "patient00031/study2_positive/image1")):  # fmt: skip
        png(folder / "train" / "XR_ELBOW" / f"{name}.png", 40 + at)
    png(folder / "train" / "XR_HAND" / "patient00011" / "study1_positive" / "image1.png", 50)
    png(folder / "valid" / "XR_WRIST" / "patient11185" / "study1_positive" / "image1.png", 60)
    (folder / "train" / "XR_HAND" / "patient00011" / "study1_positive" / "._image1.png").write_bytes(b"Mac OS X")
    listed = "MURA-v1.1/valid/XR_WRIST/patient11185/study1_positive/image1.png\nMURA-v1.1/valid/XR_HAND/patient1/study1_positive/image1.png\n"
    (folder / "valid_image_paths.csv").write_text(listed)
    there = only_read(root)
    table = mura(folder)
    assert unchanged(root, there)
    assert table["label"].tolist() == [0, 0, 1, 1, 1]
    assert table["patient"].tolist() == ["patient00011"] * 2 + ["patient00031", "patient00011", "patient11185"]
    assert table["fold"].tolist()[-1] == "test"
    assert set(table["fold"][:-1]) <= {"train", "val"}
    assert table["fold"][0] == table["fold"][3]  # one patient, in two parts of the body
    assert table["body_part"].tolist() == ["elbow"] * 3 + ["hand", "wrist"]
    assert "1 of 2 images in valid_image_paths.csv are missing" in table.attrs["told"][0]
    write_manifest(table, tmp_path / "mura.csv")
    check_source(ManifestSource(tmp_path / "mura.csv", case="case", label="label"))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("valid/XR_HAND/patient00011/study1_negative/image1.png", "patient00011 is in train and in valid"),
        ("train/XR_ELBOW/patient00011/study1_positive/image1.png", "study 1 of patient00011 is both normal and"),
        ("train/XR_ELBOW/patient00011/study1_normal/image1.png", "'study1_positive' or 'study1_negative'"),
    ],
)
def test_mura_with_a_contradiction_is_refused(root: Path, second: str, message: str) -> None:
    png(root / "train" / "XR_ELBOW" / "patient00011" / "study1_negative" / "image1.png", 40)
    png(root / second, 41)
    with pytest.raises(InputError, match=message):
        mura(root)


# -- FracAtlas -----------------------------------------------------------------------------------------------------


@pytest.fixture
def atlas(root: Path) -> Path:
    """Three fractured pictures and two others, one of them a copy of another."""
    folder = root / "FracAtlas"
    lines = ["image_id,hand,leg,hip,shoulder,mixed,hardware,multiscan,fractured,fracture_count"]
    gradient = np.add.outer(np.arange(24), 2 * np.arange(20)).astype(np.uint8)
    for name, fractured, shift in (("1", 1, 0), ("2", 1, 20), ("3", 1, 40), ("4", 0, 60), ("5", 0, 60)):
        place = folder / "images" / ("Fractured" if fractured else "Non_fractured")
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"IMG000000{name}.jpg"), gradient + np.uint8(shift))
        lines.append(f"IMG000000{name}.jpg,1,0,0,0,0,0,0,{fractured},{fractured}")
    (folder / "dataset.csv").write_text("\n".join(lines) + "\n")
    outlines = folder / "Annotations" / "COCO JSON"
    outlines.mkdir(parents=True)
    images = [{"id": i, "file_name": f"IMG000000{i}.jpg", "height": 24, "width": 20} for i in (1, 2)]
    drawn = [{"image_id": 1, "segmentation": [[4, 6, 10, 6, 10, 12, 4, 12]], "bbox": [4, 6, 6, 6]}]
    drawn.append({"image_id": 2, "segmentation": [[1, 1, 3, 1, 3, 3]], "bbox": [1, 1, 2, 2]})
    (outlines / "COCO_fracture_masks.json").write_text(json.dumps({"images": images, "annotations": drawn}))
    split = folder / "Utilities" / "Fracture Split"
    split.mkdir(parents=True)
    (split / "valid.csv").write_text("image_id\nIMG0000002.jpg\n")
    return folder


def test_fracatlas_becomes_png_files_and_masks_beside_the_manifest(atlas: Path, tmp_path: Path) -> None:
    there = only_read(atlas)
    table = fracatlas(atlas, tmp_path / "made")
    assert unchanged(atlas, there)
    rows = table.set_index("case")
    assert rows["label"].tolist() == [1, 1, 1, 0, 0]
    assert rows["published_fold"].tolist() == ["", "val", "", "", ""]
    jpeg = cv2.imread(str(atlas / "images" / "Fractured" / "IMG0000001.jpg"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read_volume(rows["image"]["IMG0000001"]).voxels[0], jpeg)
    mask = read_volume(rows["mask"]["IMG0000001"]).voxels[0] > 0
    assert np.array_equal(np.argwhere(mask).min(0), [6, 4])
    assert 36 <= mask.sum() <= 49
    assert rows["mask"].isna().tolist() == [False, False, True, True, True]
    # Two pictures of one content are one patient's, as nobody says whose they are.
    assert rows["patient"].tolist() == [f"IMG000000{i}" for i in (1, 2, 3, 4, 4)]
    assert "1 that are copies of another" in table.attrs["told"][0]
    assert "1 fractures have no mask: IMG0000003.jpg" in table.attrs["told"][1]


def test_fracatlas_leaves_pictures_out_that_are_cut_short(atlas: Path, tmp_path: Path) -> None:
    path = atlas / "images" / "Fractured" / "IMG0000003.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    table = fracatlas(atlas, tmp_path / "made")
    assert "IMG0000003" not in set(table["case"])
    assert "1 pictures cannot be read and are left out: IMG0000003.jpg (the JPEG file ends" in table.attrs["told"][1]


def test_fracatlas_of_which_no_picture_can_be_read_is_refused(atlas: Path, tmp_path: Path) -> None:
    for path in atlas.rglob("*.jpg"):
        path.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InputError, match=r"none of the pictures can be read, such as IMG0000001\.jpg"):
        fracatlas(atlas, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_picture_that_is_fractured_and_not_leaves_nothing(atlas: Path, tmp_path: Path) -> None:
    other = atlas / "images" / "Non_fractured" / "IMG0000005.jpg"
    other.write_bytes((atlas / "images" / "Fractured" / "IMG0000001.jpg").read_bytes())
    with pytest.raises(InputError, match="IMG0000001 and IMG0000005 are one picture"):
        fracatlas(atlas, tmp_path / "made")
    assert not (tmp_path / "made").exists()


# -- drawn bleeds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["label_192/images:label_192/ground truths", "imagesTr:labelsTr"])
def test_bhsd_gives_five_kinds_and_the_patients_of_rsna(root: Path, tmp_path: Path, layout: str) -> None:
    images, masks = layout.split(":")
    for name, values in (("ID_2db7ee14_ID_2591d00dfc", (1, 5)), ("ID_2db7ee14_ID_f27e38fdfd", (3,))):
        nifti(root / images / f"{name}.nii.gz", air=True)
        nifti(root / masks / f"{name}.nii.gz", values=values)
    there = only_read(root)
    table = bhsd(root)
    assert unchanged(root, there)
    assert table["patient"].tolist() == ["ID_2db7ee14"] * 2
    assert table["fold"].nunique() == 1
    assert table[["epidural", "subdural", "intraventricular"]].to_numpy().tolist() == [[1, 1, 0], [0, 0, 1]]
    write_manifest(table, tmp_path / "bhsd.csv")
    source = ManifestSource(tmp_path / "bhsd.csv", case="case")
    source.classes = Classes(tuple(BHSD_CLASSES.values()))
    assert set(np.unique(source.load(source.cases()[0]).mask.voxels)) == {0, 1, 5}


def test_bhsd_with_another_value_or_without_a_mask_is_refused(root: Path) -> None:
    nifti(root / "imagesTr" / "ID_1_ID_2.nii.gz", air=True)
    (root / "labelsTr").mkdir()
    with pytest.raises(InputError, match="there is no mask of this name in 'labelsTr'"):
        bhsd(root)
    nifti(root / "labelsTr" / "ID_1_ID_2.nii.gz", values=(6,))
    with pytest.raises(InputError, match="a mask holds 0 and 1, 2, 3, 4, 5, this one 6"):
        bhsd(root)


def test_instance_says_that_it_has_no_patients(root: Path) -> None:
    for name in ("001", "002"):
        nifti(root / "train_2" / "data" / f"{name}.nii.gz", air=True)
        nifti(root / "train_2" / "label" / f"{name}.nii.gz", values=(1,))
    there = only_read(root)
    table = instance_2022(root)
    assert unchanged(root, there)
    assert table[["case", "patient", "label"]].to_numpy().tolist() == [
        ["001", "instance_001", 1],
        ["002", "instance_002", 1],
    ]
    assert "does not say whose a scan is" in table.attrs["told"][0]


def test_hemseg_has_its_patients_from_the_published_table(root: Path) -> None:
    for part, name, values in (("train", "081c820129", (1,)), ("test", "f2a6636a59", (1, 2)), ("test", "0f", (0,))):
        nifti(root / part / "image" / f"{name}.nii.gz", air=True)
        nifti(root / part / "label" / f"{name}.nii.gz", values=values)
    with pytest.raises(InputError, match=r"nothing says whose a scan is.*get it from"):
        hemseg_200(root)
    scans = (("ID_0a6241b6", "081c820129"), ("ID_0a6241b6", "f2a6636a59"), ("ID_1", "0f"))
    lines = [json.dumps({"patient": patient, "scan_": name, "slice_list": []}) for patient, name in scans]
    (root / "annotion_file_info.jsonl").write_text("\n".join(lines) + "\n")
    there = only_read(root)
    table = hemseg_200(root).set_index("case")
    assert unchanged(root, there)
    assert table["label"].to_dict() == {"081c820129": 1, "f2a6636a59": 1, "0f": 0}
    assert table["fold"]["081c820129"] == table["fold"]["f2a6636a59"]
    assert "the values 0, 1, 2; their meaning is not published" in hemseg_200(root).attrs["told"][1]


# -- RSNA ----------------------------------------------------------------------------------------------------------


def test_rsna_groups_images_by_series_and_takes_doubled_lines_once(root: Path, tmp_path: Path) -> None:
    images = root / "stage_2_train"
    for number in (1, 2):
        mixed_tree.series(tmp_path / "made", f"1.{number}", f"1.{number}.1", f"ID_p{number}", PLACES, start=10 * number)
    images.mkdir()
    lines = []
    for at, path in enumerate(sorted((tmp_path / "made").iterdir())):
        path.rename(images / f"ID_{at:09x}.dcm")
        for kind in ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any"):
            lines.append(f"ID_{at:09x}_{kind},{int(at == 3 and kind in ('subdural', 'any'))}")
    (root / "stage_2_train.csv").write_text("\n".join(["ID,Label", *lines, *lines[:6]]) + "\n")
    there = only_read(root)
    table = rsna_hemorrhage(root, tmp_path / "lists")
    assert unchanged(root, there)
    assert table[["patient", "label", "subdural", "epidural"]].to_numpy().tolist() == [
        ["ID_p1", 1, 1, 0],
        ["ID_p2", 0, 0, 0],
    ]
    assert [len(Path(image).read_text().split()) for image in table["image"]] == [8, 8]
