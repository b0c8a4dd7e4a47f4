"""What scanners, archives and old programs write: read as meant, refused with advice, or read with a notice."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from helpers import edit_dicom
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSNearLossless

from medkit.data.io import read_volume, write_like
from medkit.data.tree import Tree
from medkit.data.tree_files import size_of
from medkit.data.tree_series import look
from medkit.errors import InputError

Write = Callable[..., None]
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"


@pytest.fixture
def head() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, (4, 16, 16)).astype(np.int16)


def edit_all(folder: Path, **tags: object) -> None:
    for path in folder.iterdir():
        edit_dicom(path, **tags)


def test_pixels_whose_bits_are_not_the_lowest_are_refused(tmp_path: Path, write_ct: Write, head: np.ndarray) -> None:
    write_ct(tmp_path / "in", head)
    edit_all(tmp_path / "in", HighBit=15)
    with pytest.raises(InputError, match=r"\(0028,0102\) HighBit: HighBit is 15.*dcmodify -m HighBit=11"):
        read_volume(tmp_path / "in")


def test_places_in_a_palette_are_no_grey_values(tmp_path: Path, write_ct: Write, head: np.ndarray) -> None:
    write_ct(tmp_path / "in", head, PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(InputError, match=r"\(0028,0004\) PhotometricInterpretation: this is a colour image"):
        read_volume(tmp_path / "in")


def test_a_mosaic_is_no_slice(tmp_path: Path, write_ct: Write, head: np.ndarray) -> None:
    write_ct(tmp_path / "in", head, ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])
    with pytest.raises(InputError, match=r"\(0008,0008\) ImageType: this is a mosaic.*dcm2niix"):
        read_volume(tmp_path / "in")


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "this is a colour image"),
        ({"HighBit": 15}, "HighBit is 15"),
        ({"RescaleSlope": 0}, "a slope of 0"),
        ({"ImageType": ["DERIVED", "PRIMARY", "MOSAIC"]}, "this is a mosaic"),
    ],
)
def test_a_tree_leaves_out_what_reading_would_refuse(
    tmp_path: Path, write_ct: Write, head: np.ndarray, tags: dict, why: str
) -> None:
    write_ct(tmp_path / "in", head, **tags)
    with Tree(tmp_path, lambda *_: None) as tree:
        ((study, series),) = tree.read().studies.items()
        ((uid, parts),) = series.items()
        assert why in look(study, uid, list(tree.series(parts)), 1, False).reason


def test_two_kernels_whose_slices_alternate_are_two_scans(tmp_path: Path, write_ct: Write, head: np.ndarray) -> None:
    write_ct(tmp_path / "in", head)
    for name in ("0002.dcm", "0004.dcm"):
        edit_dicom(tmp_path / "in" / name, ConvolutionKernel="B60f")
    with pytest.raises(InputError, match=r"ConvolutionKernel: slices with kernels B30F, B60F are interleaved"):
        read_volume(tmp_path / "in")


@pytest.mark.parametrize("other", [("0003.dcm", "0004.dcm"), ("0003.dcm",)])
def test_a_part_of_a_scan_may_have_its_own_kernel(
    tmp_path: Path, write_ct: Write, head: np.ndarray, other: tuple[str, ...]
) -> None:
    write_ct(tmp_path / "in", head)
    for name in other:
        edit_dicom(tmp_path / "in" / name, ConvolutionKernel="B60f")
    assert read_volume(tmp_path / "in").depth == 4


def test_acquisitions_that_alternate_are_two_scans_if_their_slices_are_not_evenly_spaced(
    tmp_path: Path, write_ct: Write, head: np.ndarray
) -> None:
    write_ct(tmp_path / "in", head)
    for number, name in enumerate(("0001.dcm", "0002.dcm", "0003.dcm", "0004.dcm")):
        edit_dicom(tmp_path / "in" / name, AcquisitionNumber=1 + number % 2)
    assert read_volume(tmp_path / "in").depth == 4
    x, y, z = pydicom.dcmread(tmp_path / "in" / "0002.dcm").ImagePositionPatient
    edit_dicom(tmp_path / "in" / "0002.dcm", ImagePositionPatient=[x, y, z + 1])
    with pytest.raises(InputError, match="AcquisitionNumber: slices of acquisitions 1, 2 are interleaved"):
        read_volume(tmp_path / "in")


def test_a_series_with_one_lost_position_is_not_passed_over_for_another(
    tmp_path: Path, write_ct: Write, head: np.ndarray
) -> None:
    write_ct(tmp_path / "in", head)
    edit_dicom(tmp_path / "in" / "0002.dcm", ImagePositionPatient=None)
    write_ct(tmp_path / "in", head, name="other{i}.dcm")
    with pytest.raises(InputError, match="2 series are in this folder"):
        read_volume(tmp_path / "in")


def test_pixels_compressed_with_loss_are_told(tmp_path: Path, write_ct: Write, head: np.ndarray) -> None:
    write_ct(tmp_path / "in", head)
    for path in (tmp_path / "in").iterdir():
        data = pydicom.dcmread(path)
        data.compress(JPEGLSNearLossless, jls_error=2)
        data.save_as(path)
    with pytest.warns(UserWarning, match="4 of 4 images were lossily compressed"):
        read_volume(tmp_path / "in")


def test_a_mask_of_floating_point_pixels_holds_its_own_pixels_only(
    tmp_path: Path, write_ct: Write, head: np.ndarray
) -> None:
    write_ct(tmp_path / "in", head, RescaleIntercept=0)
    for path, image in zip(sorted((tmp_path / "in").iterdir()), head, strict=True):
        data = pydicom.dcmread(path)
        del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
        data.BitsAllocated, data.FloatPixelData = 32, image.astype("<f4").tobytes()
        data.save_as(path)
    volume = read_volume(tmp_path / "in")
    mask = (volume.voxels > 0).astype(np.uint8)
    write_like(volume.like(mask), tmp_path / "out", kind="mask", description="x")
    assert np.array_equal(read_volume(tmp_path / "out").voxels, mask)


def test_contours_given_for_an_image_say_what_to_make_of_them(tmp_path: Path) -> None:
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = RTSTRUCT, "1.2.3", "RTSTRUCT"
    data.save_as(tmp_path / "rt.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match=r"rt\.dcm: no DICOM image.*contours \(RTSTRUCT\) are not read: convert them"):
        read_volume(tmp_path / "rt.dcm")


def test_a_folder_of_nifti_files_says_how_they_are_named(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 2), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"name NIfTI images one by one, such as a\.nii\.gz"):
        read_volume(tmp_path)


@pytest.mark.parametrize("side", [500, 0.0005])
def test_dicom_pixels_of_a_size_that_no_scanner_makes_are_told(
    tmp_path: Path, write_ct: Write, head: np.ndarray, side: float
) -> None:
    write_ct(tmp_path / "in", head, PixelSpacing=[side, side])
    with pytest.warns(UserWarning, match=rf"voxels are 3 x {side} x {side} mm: is this unit right"):
        read_volume(tmp_path / "in")


@pytest.mark.parametrize(("unit", "side"), [("meter", 0.5), ("micron", 0.5), ("mm", 0.0005)])
def test_nifti_voxels_whose_unit_must_be_another_are_told(tmp_path: Path, unit: str, side: float) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 4, 2), np.int16), np.diag([side, side, side, 1]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii.gz")
    with pytest.warns(UserWarning, match=rf"a\.nii\.gz: voxels are .* mm: is this unit right.*\(xyzt_units: {unit}\)"):
        read_volume(tmp_path / "a.nii.gz")


def test_a_unit_of_length_that_there_is_not_is_named(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 4, 2), np.int16), np.eye(4))
    image.header["xyzt_units"] = 7
    nibabel.save(image, tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"a\.nii\.gz: xyzt_units is 7, which is not a unit.*set_xyzt_units\('mm'\)"):
        read_volume(tmp_path / "a.nii.gz")


def test_a_volume_with_axes_of_length_one_behind_it_is_one_volume(tmp_path: Path) -> None:
    voxels = np.arange(24, dtype=np.int16).reshape(4, 3, 2, 1, 1)  # as ITK writes images of one component
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1, -1, 2, 1])), tmp_path / "a.nii")
    assert np.array_equal(read_volume(tmp_path / "a.nii").voxels, voxels[..., 0, 0].transpose(2, 1, 0))


def test_a_slice_without_a_third_axis_says_what_it_lacks(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4), np.int16), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"a\.nii: a volume has 3 dimensions.*third axis of length one"):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("a.dcm.gz", bytes(128) + b"DICM" + bytes(300), r"this is DICOM, compressed with gzip; .*gunzip"),
        ("a.mgz", b"\0\0\0\x01" + bytes(400), "but holds no NIfTI; convert it: mri_convert"),
        ("a.tar.gz", bytes(1024), "but holds no NIfTI; unpack it first"),
    ],
)
def test_what_is_compressed_but_no_nifti_says_what_to_do(tmp_path: Path, name: str, content: bytes, hint: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match=rf"{name}: .*{hint}"):
        read_volume(tmp_path / name)


def test_analyze_is_refused_because_it_says_no_sides(tmp_path: Path) -> None:
    nibabel.save(nibabel.AnalyzeImage(np.zeros((4, 4, 2), np.int16), np.eye(4)), tmp_path / "a.img")
    with pytest.raises(InputError, match=r"a\.hdr: .*Analyze 7\.5, which does not tell left from right"):
        read_volume(tmp_path / "a.hdr")


def test_sizes_in_a_manifest_are_in_mm_whatever_the_unit_of_a_file(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 4, 2), np.int16), np.diag([0.0005, 0.0005, 0.005, 1]))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "a.nii")
    size = size_of(tmp_path / "a.nii")
    assert (size["pixel_mm"], size["slice_mm"]) == (0.5, 5.0)


def test_a_list_of_slices_saved_on_windows_is_read(tmp_path: Path, write_ct: Write, head: np.ndarray) -> None:
    write_ct(tmp_path / "in", head)
    names = "\r\n".join(f"in/{z:04d}.dcm" for z in range(1, 5))
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + names.encode())
    assert read_volume(tmp_path / "list.txt").depth == 4


def test_a_list_that_names_a_folder_is_told_so(tmp_path: Path, write_ct: Write, head: np.ndarray) -> None:
    write_ct(tmp_path / "in", head)
    (tmp_path / "list.txt").write_text("in\n")
    with pytest.raises(InputError, match=r"list\.txt: '.*in' is a folder, but a list has to name files"):
        read_volume(tmp_path / "list.txt")
