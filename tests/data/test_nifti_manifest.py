"""NIfTI in and out, manifests and public layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas
import pytest

from medkit.data.dataset import Dataset, prepare_record
from medkit.data.io import read_volume, write_like
from medkit.data.layouts import physionet_ct_ich, rsna_hemorrhage, write_manifest
from medkit.data.source import ManifestSource
from medkit.errors import InputError, Problems
from medkit.testing import check_source


def nifti(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([0.5, 0.5, 5, 1]) if affine is None else affine), path)
    return path


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
def test_any_voxel_order_reads_alike_and_writes_back_bit_for_bit(tmp_path: Path, axes: tuple, flips: tuple) -> None:
    rng = np.random.default_rng(0)
    voxels = rng.integers(-1000, 1000, (6, 7, 5)).astype(np.int16)
    ras = np.diag([0.5, 0.6, 4.0, 1.0])
    ras[:3, 3] = (-10, 20, 30)
    reference = read_volume(nifti(tmp_path / "plain.nii", voxels, ras))
    # The same voxels stored in another order, the affine following.
    turned, affine = voxels[:: flips[0], :: flips[1], :: flips[2]], ras.copy()
    for axis, flip in enumerate(flips):
        if flip < 0:
            affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
            affine[:3, axis] *= -1
    turned, affine = turned.transpose(axes), affine[:, [*axes, 3]]
    path = nifti(tmp_path / "turned.nii.gz", turned, affine)
    found = read_volume(path)
    assert np.array_equal(found.voxels, reference.voxels)
    assert reference.same_grid(found, 1e-4) is None
    write_like(found.like((found.voxels > 0).astype(np.uint8)), tmp_path / "mask.nii.gz", kind="mask", description="")
    back = nibabel.load(tmp_path / "mask.nii.gz")
    assert np.array_equal(back.affine, nibabel.load(path).affine)
    assert np.array_equal(np.asanyarray(back.dataobj), turned > 0)


def test_real_nifti_with_a_mask_passes_as_a_source(shared: Path, tmp_path: Path) -> None:
    folder = shared / "realdata" / "ct_body_nnunet"
    table = tmp_path / "m.csv"
    table.write_text(
        f"image,mask,patient\n{folder / 'example_ct_sm.nii.gz'},{folder / 'example_ct_sm_mask.nii.gz'},p1\n"
    )
    check_source(ManifestSource(str(table)))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda v: np.where(v > 999, np.nan, v.astype(np.float32)), "not finite"),
        (lambda v: np.stack([v, v], -1), "3 dimensions"),
    ],
)
def test_bad_nifti_is_named(tmp_path: Path, make, expected: str) -> None:
    voxels = np.full((4, 4, 3), 1000, np.int16)
    with pytest.raises(InputError, match=rf"bad\.nii.*{expected}"):
        read_volume(nifti(tmp_path / "bad.nii", make(voxels)))


def test_a_cut_nifti_is_named(tmp_path: Path) -> None:
    path = nifti(tmp_path / "cut.nii.gz", np.random.default_rng(0).integers(0, 99, (32, 32, 8)).astype(np.int16))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"cut\.nii\.gz: this is not a whole NIfTI file"):
        read_volume(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    for i in range(4):
        nifti(tmp_path / f"{i}.nii", rng.integers(-1000, 100, (8, 8, 3)).astype(np.int16))
    mask = np.zeros((8, 8, 3), np.uint8)
    nifti(tmp_path / "empty.nii", mask)
    mask[2, 2, 1] = 1
    nifti(tmp_path / "one.nii", mask)
    nifti(tmp_path / "grey.nii", mask * 7)
    nifti(tmp_path / "byte.nii", mask * 255)
    nifti(tmp_path / "elsewhere.nii", mask, np.diag([0.7, 0.7, 5, 1]))
    return tmp_path


def manifest(
    folder: Path, rows: str, header: str = "image,mask,patient,center,fold", **arguments: Any
) -> ManifestSource:
    (folder / "m.csv").write_text(f"{header}\n{rows}")
    return ManifestSource(str(folder / "m.csv"), **arguments)


def test_an_empty_mask_cell_is_a_normal_scan_where_the_recipe_says_so_and_255_is_a_mask(folder: Path) -> None:
    source = manifest(folder, "0.nii,,007,A,train\n1.nii,byte.nii,008,B,test\n", no_mask="normal")
    normal, positive = source.cases()
    assert (normal.label, normal.patient, normal.center) == (0.0, "007", "A")
    assert not source.load(normal).mask.voxels.any()
    assert source.load(positive).mask.voxels.sum() == 1


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("9.nii,,p,A,train\n", r"m\.csv:2: image: there is no .*9\.nii"),
        ("0.nii,,,A,train\n", r"m\.csv:2: no value in 'patient'"),
        ("0.nii,,p,A,train\n0.nii,,q,A,train\n", r"m\.csv:3: case '.*0\.nii' is listed twice"),
    ],
)
def test_bad_rows_are_named_by_line(folder: Path, rows: str, expected: str) -> None:
    with pytest.raises(Problems, match=expected):
        manifest(folder, rows).cases()


def test_a_missing_column_is_helped(folder: Path) -> None:
    with pytest.raises(InputError, match="no column 'patient'; did you mean 'patient_id'"):
        manifest(folder, "0.nii,p\n", "image,patient_id").cases()


@pytest.mark.parametrize(
    ("mask", "expected"), [("elsewhere.nii", "lie on different grids"), ("grey.nii", "holds 0 and 1")]
)
def test_masks_that_do_not_fit_are_named(folder: Path, mask: str, expected: str) -> None:
    source = manifest(folder, f"0.nii,{mask},p,A,train\n")
    with pytest.raises(InputError, match=rf"{mask}.*{expected}"):
        source.load(source.cases()[0])


def test_an_empty_mask_of_a_positive_label_is_refused(folder: Path) -> None:
    (folder / "m.csv").write_text("image,mask,patient,bleed\n0.nii,empty.nii,p,1\n")
    source = ManifestSource(str(folder / "m.csv"), label="bleed")
    case = source.cases()[0]
    with pytest.raises(InputError, match="labelled 1, but its mask is all empty"):
        prepare_record(source.load(case), case, [])


def test_an_empty_split_says_what_values_there_are(folder: Path) -> None:
    source = manifest(folder, "0.nii,empty.nii,p,A,train\n")
    with pytest.raises(InputError, match="split 'test' is empty after fold = test; values of fold: train"):
        Dataset(source, {"test": {"fold": "test"}})


def test_parquet_manifests_read_like_csv(folder: Path) -> None:
    table = pandas.DataFrame({"image": ["0.nii", "1.nii"], "mask": [None, "one.nii"], "patient": ["p", "q"]})
    write_manifest(table, folder / "m.parquet")
    source = ManifestSource(str(folder / "m.parquet"), no_mask="normal")
    assert [case.label for case in source.cases()] == [0.0, None]


def test_the_ct_ich_layout_becomes_a_manifest(tmp_path: Path) -> None:
    rows = ["PatientNumber,SliceNumber,Intraventricular,Intraparenchymal,Subarachnoid,Epidural,Subdural,No_Hemorrhage"]
    for number in range(49, 59):
        nifti(tmp_path / "ct_scans" / f"{number:03d}.nii", np.zeros((4, 4, 2), np.int16))
        nifti(tmp_path / "masks" / f"{number:03d}.nii", np.zeros((4, 4, 2), np.uint8))
        rows += [f"{number},1,0,0,0,{number % 2},0,{1 - number % 2}", f"{number},2,0,0,0,0,0,1"]
    (tmp_path / "hemorrhage_diagnosis_raw_ct.csv").write_text("\n".join(rows))
    (tmp_path / "ct_scans" / "._049.nii").write_bytes(b"Mac OS X")
    table = physionet_ct_ich(tmp_path)
    assert len(table) == 10
    assert table["label"].sum() == table["epidural"].sum() == 5
    assert set(table["fold"]) == {"train", "val", "test"}
    write_manifest(table.drop(columns="mask"), tmp_path / "m.csv")
    assert len(ManifestSource(str(tmp_path / "m.csv")).cases()) == 10


def test_the_rsna_layout_is_gathered_to_series(shared: Path, tmp_path: Path) -> None:
    images = tmp_path / "stage_2_train"
    images.mkdir()
    rows = ["ID,Label"]
    for number in range(16, 20):
        (images / f"ID_{number}.dcm").write_bytes(
            (shared / "realdata" / "head_ct_ge_tilt" / f"{number}.dcm").read_bytes()
        )
        rows += [f"ID_{number}_subdural,{int(number == 18)}", f"ID_{number}_any,{int(number == 18)}"]
    (tmp_path / "stage_2_train.csv").write_text("\n".join(rows))
    table = rsna_hemorrhage(tmp_path, tmp_path / "lists")
    assert len(table) == 1
    assert table["label"][0] == 1
    assert read_volume(table["image"][0]).depth == 4


def test_another_folder_is_no_ct_ich(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the CT-ICH folder"):
        physionet_ct_ich(tmp_path)


def test_a_compressed_file_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    # nibabel stops reading where the voxels end, before the checksum, and gives other voxels without a word.
    path = tmp_path / "a.nii.gz"
    voxels = np.random.default_rng(0).integers(-1000, 1000, (16, 16, 4)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 1, 5, 1])), path)
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # of the checksum itself: whatever stands before it is sound
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.nii\.gz: this is not a whole NIfTI file"):
        read_volume(path)


def test_a_header_that_is_put_right_is_told_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16) - 1000, np.eye(4)), path)
    data = bytearray(path.read_bytes())
    data[252:254] = (77).to_bytes(2, "little")  # qform_code
    path.write_bytes(data)
    with pytest.warns(UserWarning, match=r"a\.nii: its header is not valid .*qform_code 77"):
        assert "qform_code 77" in read_volume(path).notes[0]
