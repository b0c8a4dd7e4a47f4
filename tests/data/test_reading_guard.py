"""Whatever a file holds, reading it gives an image or an error that names it, and units that are established."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pydicom
import pytest
from helpers import edit_dicom
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from medkit.data.dataset import prepare_record
from medkit.data.io import read_volume
from medkit.data.transforms import Window
from medkit.data.transforms_radiograph import ClipPercentiles
from medkit.errors import InputError
from medkit.protocols import Case, Record

Write = Callable[..., None]
CASE = Case("c", "p")


@pytest.fixture
def head() -> np.ndarray:
    """(4,16,16) HU: air around tissue."""
    hu = np.full((4, 16, 16), -1000, np.int16)
    hu[:, 4:12, 4:12] = np.random.default_rng(0).integers(0, 80, (4, 8, 8))
    return hu


def raw(data: pydicom.Dataset, keyword: str, text: str) -> None:
    """Put a value into a data set as a damaged file would have it."""
    tag = Tag(pydicom.datadict.tag_for_keyword(keyword) or 0)
    value = text.encode()
    if keyword in data:
        del data[tag]
    kind = pydicom.datadict.dictionary_VR(tag)
    data._dict[tag] = RawDataElement(tag, kind, len(value), value.ljust(len(value) + len(value) % 2), 0, False, True)


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("RescaleSlope", "0"),
        ("RescaleSlope", "nan"),
        ("RescaleSlope", "1e300"),
        ("RescaleSlope", ""),
        ("RescaleIntercept", "inf"),
        ("RescaleIntercept", "-1024,0"),
        ("RescaleIntercept", "-1024\\-1024"),
        ("PixelSpacing", "0,5\\0,5"),
        ("PixelSpacing", "0.5"),
        ("PixelSpacing", "0\\0"),
        ("PixelSpacing", "-1\\1"),
        ("ImagePositionPatient", "0\\\\0"),
        ("ImageOrientationPatient", "1\\0\\0\\0\\nan\\0"),
        ("NumberOfFrames", "1A"),
    ],
)
def test_a_damaged_number_names_file_and_tag(
    tmp_path: Path, write_ct: Write, head: np.ndarray, keyword: str, text: str
) -> None:
    write_ct(tmp_path / "in", head)
    path = tmp_path / "in" / "0003.dcm"
    data = pydicom.dcmread(path)
    raw(data, keyword, text)
    data.save_as(path)
    with pytest.raises(InputError, match=rf"000\d\.dcm \(00[0-9A-F]{{2}},[0-9A-F]{{4}}\) {keyword}: "):
        read_volume(tmp_path / "in")


@pytest.mark.parametrize("missing", ["RescaleIntercept", "RescaleSlope"])
def test_ct_without_a_rescale_is_refused_by_the_tag(
    tmp_path: Path, write_ct: Write, head: np.ndarray, missing: str
) -> None:
    write_ct(tmp_path / "in", head)
    edit_dicom(tmp_path / "in" / "0002.dcm", **{missing: None})
    with pytest.raises(InputError, match=rf"0002\.dcm \(0028,105[23]\) {missing}: missing in a CT image"):
        read_volume(tmp_path / "in")


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"Modality": "MR"}, r"Modality \(0008,0060\) is MR"),
        ({"Modality": None}, r"Modality \(0008,0060\) is missing"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "Secondary Capture Image Storage"),
        ({"RescaleType": "OD"}, r"RescaleType \(0028,1054\) is OD"),
        ({"RescaleIntercept": 0}, "no air, fat or noise below 0"),
    ],
)
def test_dicom_that_is_no_ct_in_hu_passes_no_window_in_hu(
    tmp_path: Path, write_ct: Write, head: np.ndarray, tags: dict, why: str
) -> None:
    write_ct(tmp_path / "in", head)
    for path in (tmp_path / "in").iterdir():
        edit_dicom(path, **tags)
    volume = read_volume(tmp_path / "in")
    with pytest.raises(InputError, match=rf"in: the window from 0 to 80 HU needs CT in HU.*{why}.*--units HU"):
        prepare_record(Record(volume), CASE, [Window()])
    prepare_record(Record(volume), CASE, [Window(units="stored")])
    vouched = read_volume(tmp_path / "in", units="HU")
    prepare_record(Record(vouched), CASE, [Window()])
    assert vouched.notes == ("read as HU values, as requested",)


def test_a_nifti_file_without_air_is_told_and_one_in_0_to_1_is_refused(tmp_path: Path, head: np.ndarray) -> None:
    stripped = np.where(head < 0, 0, head)
    for name, values in (("hu", head), ("stripped", stripped), ("stored", head + 1024), ("unit", (head > 0) * 0.5)):
        nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), np.eye(4)), tmp_path / f"{name}.nii")
    doubts = {
        name: prepare_record(Record(read_volume(tmp_path / f"{name}.nii")), CASE, [Window()]).doubt
        for name in ("hu", "stripped", "stored")
    }
    assert doubts.pop("hu") == ""
    assert all("there is no air" in doubt for doubt in doubts.values())
    with pytest.raises(InputError, match=r"unit\.nii: the window .* needs CT in HU"):
        prepare_record(Record(read_volume(tmp_path / "unit.nii")), CASE, [Window()])


def test_png_has_no_known_volume_and_is_not_in_hu(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", np.arange(64, dtype=np.uint8).reshape(8, 8))[1].tobytes())
    volume = read_volume(tmp_path / "a.png")
    assert np.isnan(volume.slice_volumes()).all()
    with pytest.raises(InputError, match=r"a\.png: .*it is a PNG image"):
        prepare_record(Record(volume), CASE, [Window()])


@pytest.mark.parametrize("mono", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("padding", [0, 65535])
def test_padding_of_a_radiograph_is_dark_and_takes_no_part(tmp_path: Path, mono: str, padding: int) -> None:
    body = np.random.default_rng(0).integers(1000, 3001, (40, 40)).astype(np.uint16)
    body[20, 20:22] = 1000, 3000
    stored = body.copy()
    stored[:12] = padding
    volume = read_volume(radiograph(tmp_path / "a.dcm", stored, mono, PixelPaddingValue=padding))
    expected = body[12:].astype(int) if mono == "MONOCHROME2" else 4000 - body[12:].astype(int)
    assert np.array_equal(volume.voxels[0, 12:], expected)
    assert (volume.voxels[0, :12] == 1000).all()
    assert ClipPercentiles().apply({"image": volume.voxels})["image"][0, 0, 0] == 0


def radiograph(path: Path, stored: np.ndarray, mono: str = "MONOCHROME2", **tags: object) -> Path:
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = pydicom.uid.DigitalXRayImageStorageForPresentation, "1.2.3"
    data.SeriesInstanceUID, data.Modality = "1.2", "DX"
    data.Rows, data.Columns = stored.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, mono
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    if "PixelPaddingValue" in tags:
        data.add_new("PixelPaddingValue", "US", tags.pop("PixelPaddingValue"))
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = stored.astype("<u2").tobytes()
    data["PixelData"].VR = "OW"
    data.save_as(path, enforce_file_format=True)
    return path


def test_a_radiograph_with_a_spacing_of_zero_counts_pixels_as_1_mm_and_says_so(tmp_path: Path) -> None:
    path = radiograph(tmp_path / "zero.dcm", np.ones((8, 8), np.uint16), PixelSpacing=[0, 0])
    with pytest.warns(UserWarning, match=r"zero\.dcm: PixelSpacing is not usable.*pixels count as 1 mm"):
        volume = read_volume(path)
    assert volume.spacing == (1, 1, 1)
    assert not volume.spacing_known


@pytest.mark.parametrize("frames", [1, None])
def test_a_file_that_shares_groups_but_has_none_a_frame_is_refused(
    tmp_path: Path, write_ct: Write, head: np.ndarray, frames: int | None
) -> None:
    shared = pydicom.Sequence([pydicom.Dataset()])
    tags = {"SharedFunctionalGroupsSequence": shared} | ({"NumberOfFrames": frames} if frames else {})
    write_ct(tmp_path / "in", head[:1], **tags)
    with pytest.raises(InputError, match=r"\(5200,9230\).*0 items for 1 frames"):
        read_volume(tmp_path / "in")


def test_negative_numbers_under_a_header_that_has_none_are_refused(tmp_path: Path, write_ct: Write) -> None:
    head = np.full((2, 16, 64), -1000)
    head[:, 4:12] = 40
    write_ct(tmp_path / "in", head, RescaleIntercept=0, BitsStored=16, HighBit=15)
    for path, image in zip(sorted((tmp_path / "in").iterdir()), head, strict=True):
        edit_dicom(path, PixelData=image.astype("<i2").tobytes())
    with pytest.raises(InputError, match=r"\(0028,0103\) PixelRepresentation: .* 50% look like negative numbers"):
        read_volume(tmp_path / "in")
    for path in (tmp_path / "in").iterdir():
        edit_dicom(path, PixelRepresentation=1)
    assert np.array_equal(read_volume(tmp_path / "in").voxels, head)


def test_pixels_of_which_the_header_would_leave_rows_out_are_refused(tmp_path: Path, write_ct: Write) -> None:
    write_ct(tmp_path / "in", np.zeros((1, 40, 512)))
    edit_dicom(tmp_path / "in" / "0001.dcm", Rows=39)
    with pytest.raises(InputError, match=r"\(7FE0,0010\) PixelData: 40960 bytes are too many for the 39x512 pixels"):
        read_volume(tmp_path / "in")


def test_hidden_files_are_passed_over(tmp_path: Path, write_ct: Write, head: np.ndarray) -> None:
    write_ct(tmp_path / "in", head)
    (tmp_path / "in" / "._0001.dcm").write_bytes(b"\0\5\x16\7 Mac OS X")
    assert read_volume(tmp_path / "in").depth == 4


def test_a_folder_of_folders_names_those_with_images(tmp_path: Path, write_ct: Write, head: np.ndarray) -> None:
    write_ct(tmp_path / "study" / "a" / "ct", head)
    write_ct(tmp_path / "study" / "b", head)
    with pytest.raises(InputError, match=r"name one of them: a/ct \(1 series\), b \(1 series\)"):
        read_volume(tmp_path / "study")


def test_pictures_are_left_out_of_the_choice_and_series_are_described(
    tmp_path: Path, write_ct: Write, head: np.ndarray
) -> None:
    write_ct(tmp_path / "in", head)
    write_ct(tmp_path / "in", head[:2], name="report{i}.dcm", SeriesDescription="Exam Summary")
    for path in (tmp_path / "in").glob("report*"):
        edit_dicom(path, ImagePositionPatient=None)
    with pytest.warns(UserWarning, match="left out: 'Exam Summary', .*2 images"):
        assert read_volume(tmp_path / "in").depth == 4
    write_ct(tmp_path / "in", head, name="thin{i}.dcm", SeriesNumber=3, SeriesDescription="THIN", SliceThickness=1)
    with pytest.raises(
        InputError, match=r"2 series.*\(number 3, 'THIN', 1 mm thick, kernel B30F, 4 images\).*pick one"
    ):
        read_volume(tmp_path / "in")


@pytest.mark.parametrize(
    ("at", "put"),
    [
        (70, struct.pack("<h", 1)),
        (344, b"abcd"),
        (42, struct.pack("<3h", 32767, 32767, 32767)),
        (46, struct.pack("<h", 0)),
        (280, bytes(48)),
    ],
    ids=["datatype", "magic", "size", "empty", "affine"],
)
def test_a_damaged_nifti_header_names_the_file(tmp_path: Path, head: np.ndarray, at: int, put: bytes) -> None:
    nibabel.save(nibabel.Nifti1Image(head.transpose(2, 1, 0), np.eye(4)), tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[at : at + len(put)] = put
    (tmp_path / "a.nii").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.nii: "):
        read_volume(tmp_path / "a.nii")


def test_a_name_that_does_not_tell_compression_is_told(tmp_path: Path, head: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(head, np.eye(4)), tmp_path / "a.nii")
    plain = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "zipped.nii").write_bytes(gzip.compress(plain))
    (tmp_path / "plain.nii.gz").write_bytes(plain)
    with pytest.raises(InputError, match=r"rename it to zipped\.nii\.gz"):
        read_volume(tmp_path / "zipped.nii")
    with pytest.raises(InputError, match=r"rename it to plain\.nii"):
        read_volume(tmp_path / "plain.nii.gz")


def test_a_nifti_file_in_microns_has_its_volume_in_mm(tmp_path: Path, head: np.ndarray) -> None:
    image = nibabel.Nifti1Image(head, np.diag([500, 500, 2000, 1]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").spacing, [2, 0.5, 0.5])


def test_a_nifti_file_without_a_place_is_told(tmp_path: Path, head: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(head, None), tmp_path / "a.nii")
    with pytest.warns(UserWarning, match=r"a\.nii: its position in space is unknown"):
        assert read_volume(tmp_path / "a.nii").notes


def test_too_large_images_are_refused_before_they_are_decoded(
    tmp_path: Path, head: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".png", np.zeros((300, 300), np.uint8))[1].tobytes())
    nibabel.save(nibabel.Nifti1Image(np.zeros((64, 64, 64), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    assert read_volume(path).voxels.shape == (1, 300, 300)
    monkeypatch.setenv("MEDKIT_MAX_IMAGE_GIB", "0.0005")
    for name in ("a.png", "a.nii.gz"):
        with pytest.raises(
            InputError, match=rf"{name}: an image of .* pixels would take .* GiB; set a larger MEDKIT_MAX"
        ):
            read_volume(tmp_path / name)


def test_dicom_without_its_preamble_says_which_program_mends_it(
    tmp_path: Path, write_ct: Write, head: np.ndarray
) -> None:
    write_ct(tmp_path / "in", head, name="{i}.ima")
    for path in (tmp_path / "in").iterdir():
        path.write_bytes(path.read_bytes()[132:])
    with pytest.raises(InputError, match=r"1\.ima: this looks like DICOM without its preamble.*dcmconv"):
        read_volume(tmp_path / "in")


@pytest.mark.parametrize(
    ("name", "data", "hint"),
    [("a.jpg", b"\xff\xd8\xff\xe0", "grey PNG"), ("a.tif", b"II*\0", "grey PNG"), ("a.npy", b"\x93NUMPY", "NIfTI")],
)
def test_other_kinds_of_images_say_what_to_make_of_them(tmp_path: Path, name: str, data: bytes, hint: str) -> None:
    (tmp_path / name).write_bytes(data + bytes(400))
    with pytest.raises(InputError, match=rf"neither DICOM nor NIfTI nor PNG.*{hint}"):
        read_volume(tmp_path / name)


def test_real_files_hold_the_hu_that_simpleitk_reads(shared: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    volume = read_volume(shared / "realdata" / "phantom_ct_philips_tilt")
    reader = itk.ImageSeriesReader()
    reader.SetFileNames(volume.header["files"])
    image = reader.Execute()
    assert np.array_equal(itk.GetArrayFromImage(image), volume.voxels)
    assert volume.units == "HU"
    np.testing.assert_allclose(image.GetOrigin(), volume.affine[:3, 3], atol=1e-6)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_bytes_behind_the_voxels_of_a_nifti_file_and_a_pixdim_of_another_size_are_told(
    tmp_path: Path, name: str
) -> None:
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5) - 1000, np.diag([2.0, 2, 5, 1]))
    nibabel.save(image, tmp_path / name)
    assert read_volume(tmp_path / name).notes == ()
    opened = gzip.open if name.endswith(".gz") else open
    with opened(tmp_path / name, "rb") as file:
        data = bytearray(file.read())
    struct.pack_into("<h", data, 46, 4)  # one slice less
    struct.pack_into("<f", data, 88, 3.0)
    with opened(tmp_path / name, "wb") as file:
        file.write(data)
    with pytest.warns(UserWarning, match="the sform is used"):
        notes = read_volume(tmp_path / name).notes
    assert notes == (
        "24 bytes follow its voxels: does its header give a wrong size?",
        "voxels are 2 x 2 x 5 mm by its sform and 2 x 2 x 3 mm by pixdim; the sform is used",
    )


def test_a_big_endian_series_is_refused_with_the_way_out(tmp_path: Path, write_ct: Write) -> None:
    hu = np.random.default_rng(0).integers(-1000, 1000, (3, 6, 8)).astype(np.int16)
    write_ct(tmp_path / "little", hu)
    (tmp_path / "big").mkdir()
    for path in (tmp_path / "little").iterdir():
        data = pydicom.dcmread(path)
        made = pydicom.Dataset()
        made.update({element.tag: element for element in data})
        made.file_meta = data.file_meta
        made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
        made.PixelData = data.pixel_array.astype(">i2").tobytes()
        made["PixelData"].VR = "OW"
        made.save_as(tmp_path / "big" / path.name, enforce_file_format=True)
    with pytest.raises(InputError, match=r"0001\.dcm: big-endian pixels are not read.*dcmconv \+te"):
        read_volume(tmp_path / "big")
