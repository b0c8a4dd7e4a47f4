"""DICOM in and out, on real series and on faults made from them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medkit.data.io import read_volume, write_like
from medkit.errors import InputError


@pytest.fixture(scope="module")
def head(shared: Path) -> Path:
    return shared / "realdata" / "head_ct_ge_tilt"


@pytest.fixture
def copy(head: Path, tmp_path: Path) -> Path:
    """Five slices of the real head, to be spoilt."""
    for number in range(16, 21):
        target = tmp_path / "series" / f"{number}.dcm"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((head / f"{number}.dcm").read_bytes())
    return tmp_path / "series"


def change(path: Path, **tags: object) -> None:
    data = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path)


def test_a_tilted_series_with_varying_gaps_reads_with_true_geometry(head: Path) -> None:
    volume = read_volume(head)
    assert volume.voxels.shape == (21, 512, 512)
    assert volume.voxels.min() == -1024
    assert volume.positions is not None
    across, down = volume.affine[:3, 0], volume.affine[:3, 1]
    # A tilted gantry shears the stack: the slice step is not along the normal.
    assert abs(across @ down) / np.linalg.norm(across) / np.linalg.norm(down) > 0.2
    pixel = volume.spacing[1] * volume.spacing[2]
    # The first gap is 4 mm, the last 7 mm.
    np.testing.assert_allclose(volume.slice_volumes()[[0, -1]] / pixel, [4.0, 7.0], atol=0.01)


def test_slices_are_ordered_by_position_not_by_name(copy: Path) -> None:
    expected = read_volume(copy).voxels
    for i, path in enumerate(sorted(copy.iterdir(), reverse=True)):
        path.rename(copy / f"a{i}.dcm")
    assert np.array_equal(read_volume(copy).voxels, expected)


@pytest.mark.parametrize("folder", ["dicom_missing_slice_geometry", "dicom_missing_slices_monai"])
def test_missing_slices_name_the_file_and_the_tag(shared: Path, folder: str) -> None:
    with pytest.raises(InputError, match=r"\(0020,0032\) ImagePositionPatient: slices are missing"):
        read_volume(shared / "realdata" / folder)


def test_several_series_are_listed_and_can_be_picked(shared: Path) -> None:
    folder = shared / "realdata" / "phantom_ct_philips_noise"
    with pytest.raises(InputError, match=r"3 series are in this folder.*FOLDER#UID") as caught:
        read_volume(folder)
    uid = next(word for word in str(caught.value).split() if word.endswith("233390035616"))
    assert read_volume(f"{folder}#{uid}").depth == 5


def test_every_transfer_syntax_gives_the_same_voxels(shared: Path) -> None:
    folder = shared / "realdata" / "ct_transfer_syntaxes"
    plain = read_volume(folder / "implicit_le.dcm").voxels.astype(int)
    for name, error in {
        "deflated": 0,
        "rle": 0,
        "jpeg_ll_sv1": 0,
        "jpegls_lossless": 0,
        "j2k_lossless": 0,
        "jpegls_near": 3,
        "j2k_lossy": 20,
    }.items():
        assert abs(read_volume(folder / f"{name}.dcm").voxels - plain).max() <= error, name


def test_a_radiograph_in_monochrome1_is_inverted(shared: Path) -> None:
    path = shared / "realdata" / "dicom_awkward_pydicom" / "RG3_J2KI.dcm"
    stored = pydicom.dcmread(path).pixel_array.astype(int)
    found = read_volume(path).voxels[0].astype(int)
    assert np.corrcoef(stored.ravel()[::97], found.ravel()[::97])[0, 1] == pytest.approx(-1)


def test_a_truncated_file_is_named(copy: Path) -> None:
    path = copy / "18.dcm"
    path.write_bytes(path.read_bytes()[:200_000])
    with pytest.raises(InputError, match=r"18\.dcm.*cut short"):
        read_volume(copy)


def test_a_file_that_only_calls_itself_dicom_is_named(copy: Path) -> None:
    (copy / "notes.dcm").write_text("hello")
    with pytest.raises(InputError, match=r"notes\.dcm: this is not a DICOM file"):
        read_volume(copy)


def test_scouts_and_notes_are_left_out(copy: Path) -> None:
    change(copy / "20.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    (copy / "README.md").write_text("notes")
    assert read_volume(copy).depth == 4


def test_only_scouts_is_an_error(copy: Path) -> None:
    for path in copy.iterdir():
        change(path, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    with pytest.raises(InputError, match=r"no DICOM image was found here \(5 scout"):
        read_volume(copy)


def test_the_same_slice_twice_is_named(copy: Path) -> None:
    shutil.copy(copy / "18.dcm", copy / "again.dcm")
    with pytest.raises(InputError, match=r"again\.dcm .* is a copy of 18\.dcm"):
        read_volume(copy)
    change(copy / "again.dcm", SOPInstanceUID=pydicom.uid.generate_uid())
    with pytest.raises(InputError, match="two scans in one series"):
        read_volume(copy)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (
            {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
            r"\(0020,0037\) ImageOrientationPatient: orientation differs",
        ),
        ({"ImagePositionPatient": None}, r"\(0020,0032\) ImagePositionPatient"),
        ({"Rows": 256}, r"\(0028,0010\) Rows: size 256x512 differs"),
    ],
)
def test_slices_that_do_not_fit_name_file_and_tag(copy: Path, tags: dict, expected: str) -> None:
    change(copy / "18.dcm", **tags)
    with pytest.raises(InputError, match=expected):
        read_volume(copy)


def test_a_mask_written_as_dicom_lies_on_the_same_slices_with_new_identity(head: Path, tmp_path: Path) -> None:
    source = read_volume(head)
    mask = (source.voxels > 60).astype(np.uint8)
    write_like(source.like(mask), tmp_path / "mask", kind="mask", description="test")
    back = read_volume(tmp_path / "mask")
    assert np.array_equal(back.voxels, mask)
    assert source.same_grid(back, 1e-6) is None
    first, old = pydicom.dcmread(tmp_path / "mask" / "0001.dcm"), pydicom.dcmread(source.header["files"][0])
    assert first.StudyInstanceUID == old.StudyInstanceUID
    assert first.SeriesInstanceUID != old.SeriesInstanceUID
    assert first.SOPInstanceUID != old.SOPInstanceUID
    assert first.ImageType[0] == "DERIVED"


def test_an_image_written_as_dicom_keeps_hu_and_padding(head: Path, tmp_path: Path) -> None:
    source = read_volume(head)
    write_like(source.like(source.voxels.astype(np.float32)), tmp_path / "image", kind="image", description="test")
    stored = pydicom.dcmread(tmp_path / "image" / "0001.dcm").pixel_array
    assert np.array_equal(stored, pydicom.dcmread(source.header["files"][0]).pixel_array)


def test_an_existing_output_is_never_touched(head: Path, tmp_path: Path) -> None:
    source = read_volume(head)
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="the output exists"):
        write_like(source.like(source.voxels), tmp_path / "there", kind="image", description="test")
