"""A derived DICOM series: its values, its padding, where it says it comes from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pydicom
import pytest

import medkit
from medkit.data.io import check_output, read_volume, write_like
from medkit.data.volume import Volume
from medkit.errors import InputError, RunError


@pytest.fixture
def hu() -> np.ndarray:
    """(2,8,8) HU with padding of -1024 around it."""
    hu = np.full((2, 8, 8), -1024)
    hu[:, 2:6, 2:6] = 30
    return hu


def change(file: Path, **tags: object) -> None:
    """Set tags of a file; None takes one out."""
    data = pydicom.dcmread(file)
    for name, value in tags.items():
        if value is None:
            del data[name]
        else:
            setattr(data, name, value)
    data.save_as(file, enforce_file_format=False)


def derived(source: Volume, voxels: np.ndarray, folder: Path) -> pydicom.Dataset:
    write_like(source.like(voxels), folder, kind="image", description="test")
    return pydicom.dcmread(folder / "0001.dcm")


def test_padding_keeps_its_numbers_and_its_name(tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]) -> None:
    write_ct(tmp_path / "scan", hu, PixelPaddingValue=0)
    source = read_volume(tmp_path / "scan")
    data = derived(source, source.voxels + np.float32(3.4), tmp_path / "out")
    assert (data.PixelPaddingValue, data["PixelPaddingValue"].VR) == (0, "US")
    assert np.array_equal(data.pixel_array, np.where(hu[0] == -1024, 0, 1024 + 33))


def test_a_range_of_padding_stays_a_range(tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]) -> None:
    hu[0, 0, 0] = -1020
    write_ct(tmp_path / "scan", hu, PixelPaddingValue=0, PixelPaddingRangeLimit=10)
    data = derived(read_volume(tmp_path / "scan"), np.full(hu.shape, 7), tmp_path / "out")
    assert (data.PixelPaddingValue, data.PixelPaddingRangeLimit) == (0, 10)
    assert data.pixel_array[0, 0] == 4


def test_padding_that_new_values_would_be_taken_for_loses_its_name(
    tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]
) -> None:
    write_ct(tmp_path / "scan", hu, PixelPaddingValue=0)
    data = derived(read_volume(tmp_path / "scan"), np.full(hu.shape, -1024), tmp_path / "out")
    assert "PixelPaddingValue" not in data
    assert (data.pixel_array == 0).all()


def test_values_take_the_nearest_step_of_the_source_and_untouched_ones_their_own(
    tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]
) -> None:
    write_ct(tmp_path / "scan", hu, RescaleSlope="0.1", RescaleIntercept="-100")
    source = read_volume(tmp_path / "scan")
    new = source.voxels.copy()
    new[0, 3, 3] += 0.26
    data = derived(source, new, tmp_path / "out")
    old = pydicom.dcmread(source.header["files"][0])
    assert (data.RescaleSlope, data.RescaleIntercept) == (old.RescaleSlope, old.RescaleIntercept)
    change = data.pixel_array.astype(int) - old.pixel_array
    assert change[3, 3] == 3
    assert np.count_nonzero(change) == 1


def test_every_slice_keeps_its_own_scale(tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]) -> None:
    write_ct(tmp_path / "scan", hu)
    change(tmp_path / "scan" / "0002.dcm", RescaleSlope="0.5")
    source = read_volume(tmp_path / "scan")
    derived(source, source.voxels, tmp_path / "out")
    assert [pydicom.dcmread(tmp_path / "out" / f"000{i}.dcm").RescaleSlope for i in (1, 2)] == [1, 0.5]
    assert np.array_equal(read_volume(tmp_path / "out").voxels, source.voxels)


@pytest.mark.parametrize(
    ("orientation", "step"),
    [([1, 0, 0, 0, 0, -1], [0, 3, 0]), ([0, 1, 0, 0, 0, -1], [3, 0, 0]), ([-1, 0, 0, 0, -1, 0], [0, 0, 3])],
    ids=["coronal", "sagittal", "prone"],
)
def test_a_series_that_was_turned_to_be_read_is_written_on_its_own_slices(
    tmp_path: Path, write_ct: Callable[..., None], orientation: list, step: list
) -> None:
    write_ct(tmp_path / "scan", np.random.default_rng(0).integers(-1000, 1000, (5, 8, 8)))
    for i, file in enumerate(sorted((tmp_path / "scan").iterdir())):
        place = [float(i * length) for length in step]
        change(file, ImageOrientationPatient=orientation, ImagePositionPatient=place)
    source = read_volume(tmp_path / "scan")
    write_like(source.like(source.voxels), tmp_path / "out", kind="image", description="test")
    assert source.same_grid(read_volume(tmp_path / "out")) is None
    old = [pydicom.dcmread(file) for file in source.header["files"]]
    for data, new in zip(old, map(pydicom.dcmread, sorted((tmp_path / "out").iterdir())), strict=True):
        assert np.array_equal(new.pixel_array, data.pixel_array)
        assert new.ImagePositionPatient == data.ImagePositionPatient
    mask = source.like((source.voxels > 0).astype(np.uint8))
    write_like(mask, tmp_path / "mask", kind="mask", description="test")
    assert np.array_equal(read_volume(tmp_path / "mask").voxels, mask.voxels)


def test_numbers_above_32767_are_kept(tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]) -> None:
    write_ct(tmp_path / "scan", hu, BitsStored=16, HighBit=15)
    numbers = pydicom.dcmread(tmp_path / "scan" / "0001.dcm").pixel_array.copy()
    numbers[3, 3] = 65000
    change(tmp_path / "scan" / "0001.dcm", PixelData=numbers.tobytes())
    source = read_volume(tmp_path / "scan")
    assert derived(source, source.voxels, tmp_path / "out").pixel_array[3, 3] == 65000


def test_values_that_the_source_could_not_store_get_a_wider_or_shifted_scale(
    tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]
) -> None:
    write_ct(tmp_path / "scan", hu)
    source = read_volume(tmp_path / "scan")
    for low, high, signed in ((-1024, 9000, 0), (-3000, 9000, 1), (-3000, 50000, 0)):
        new = source.voxels.astype(np.float32)
        new[0, 0, 0], new[1, 7, 7] = low, high
        out = tmp_path / f"out{low}{high}"
        data = derived(source, new, out)
        assert (data.BitsStored, data.PixelRepresentation) == (16, signed)
        assert np.array_equal(read_volume(out).voxels, new)
    new[0, 0, 0] = 5e9 + 1024
    with pytest.raises(InputError, match=r"stored numbers from 0 to 5000002048 .* do not fit"):
        derived(source, new, tmp_path / "never")
    new[0, 0, 0] = -30000
    with pytest.raises(InputError, match=r"0001\.dcm: stored numbers from -28976 to 51024 .* do not fit.*\.nii\.gz"):
        derived(source, new, tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_an_inverted_radiograph_is_stored_as_it_was(tmp_path: Path, write_ct: Callable[..., None]) -> None:
    image = np.arange(64).reshape(1, 8, 8) * 30 - 1000
    write_ct(tmp_path / "scan", image, Modality="CR", PhotometricInterpretation="MONOCHROME1", WindowCenter=500)
    for name in ("RescaleSlope", "RescaleIntercept", "ImagePositionPatient", "ImageOrientationPatient"):
        change(tmp_path / "scan" / "0001.dcm", **{name: None})
    source = read_volume(tmp_path / "scan")
    old = pydicom.dcmread(source.header["files"][0])
    new = source.voxels.copy()
    new[0, 2, 2] += 5  # brighter where more means brighter, so less in what is stored inverted
    data = derived(source, new, tmp_path / "out")
    assert (data.PhotometricInterpretation, data.WindowCenter) == ("MONOCHROME1", 500)
    assert "RescaleSlope" not in data
    expected = old.pixel_array.astype(int)
    expected[2, 2] -= 5
    assert np.array_equal(data.pixel_array, expected)


def test_every_slice_names_the_one_it_was_made_from_and_keeps_who_it_shows(
    tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]
) -> None:
    write_ct(tmp_path / "scan", hu, PatientID="P1", BurnedInAnnotation="NO", StudyInstanceUID="1.2.3")
    source = read_volume(tmp_path / "scan")
    derived(source, source.voxels, tmp_path / "out")
    for name in ("0001.dcm", "0002.dcm"):
        old, new = pydicom.dcmread(tmp_path / "scan" / name), pydicom.dcmread(tmp_path / "out" / name)
        (reference,) = new.SourceImageSequence
        assert reference.ReferencedSOPClassUID == old.SOPClassUID
        assert reference.ReferencedSOPInstanceUID == old.SOPInstanceUID
        assert (new.PatientID, new.BurnedInAnnotation, new.StudyInstanceUID) == ("P1", "NO", "1.2.3")
        assert new.ImagePositionPatient == old.ImagePositionPatient


def test_dates_are_those_of_the_writing_and_the_scanner_is_named_as_a_contributor(
    tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]
) -> None:
    old = dict.fromkeys(("SeriesDate", "ContentDate", "InstanceCreationDate", "AcquisitionDate"), "20200101")
    write_ct(tmp_path / "scan", hu, **old, TimezoneOffsetFromUTC="+0900")
    source = read_volume(tmp_path / "scan")
    data = derived(source, source.voxels, tmp_path / "out")
    today = datetime.now(timezone(timedelta(hours=9)))
    for name in ("SeriesDate", "ContentDate", "InstanceCreationDate"):
        assert data.get(name) in {day.strftime("%Y%m%d") for day in (today, today - timedelta(minutes=5))}
    assert data.AcquisitionDate == "20200101"
    assert (data.Manufacturer, data.SoftwareVersions) == ("medkit", medkit.__version__)
    (scanner,) = data.ContributingEquipmentSequence
    assert (scanner.Manufacturer, scanner.PurposeOfReferenceCodeSequence[0].CodeMeaning) == (
        "SIEMENS",
        "Acquisition Equipment",
    )


def test_nothing_that_speaks_of_the_old_pixels_stays(
    tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]
) -> None:
    icon = pydicom.Dataset()
    icon.Rows = 1
    tags = {"WindowCenter": [40, 400], "WindowWidth": [80, 2000], "WindowCenterWidthExplanation": ["BRAIN", "BONE"]}
    write_ct(tmp_path / "scan", hu, IconImageSequence=[icon], SmallestImagePixelValue=0, RescaleType="HU", **tags)
    for file in sorted((tmp_path / "scan").iterdir()):
        data = pydicom.dcmread(file)
        data.add_new(0x60000010, "US", 8)  # an overlay
        data.private_block(0x0029, "VENDOR", create=True).add_new(1, "LO", "of the old pixels")
        data.save_as(file)
    source = read_volume(tmp_path / "scan")
    image = derived(source, source.voxels, tmp_path / "image")
    write_like(source.like((hu > 0).astype(np.uint8)), tmp_path / "mask", kind="mask", description="mask: test")
    mask = pydicom.dcmread(tmp_path / "mask" / "0001.dcm")
    for data in (image, mask):
        assert "IconImageSequence" not in data
        assert "SmallestImagePixelValue" not in data
        assert not [tag for tag in data.keys() if tag.is_private or tag.group == 0x6000]  # noqa: SIM118
    assert (image.WindowCenter, image.RescaleType) == ([40, 400], "HU")
    assert (mask.WindowCenter, mask.WindowWidth, mask.RescaleType) == (0.5, 1, "US")
    assert "WindowCenterWidthExplanation" not in mask
    assert list(mask.ImageType) == ["DERIVED", "SECONDARY"]
    assert mask.SeriesDescription == "medkit mask: test"


def test_what_was_compressed_with_loss_still_says_how(
    tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]
) -> None:
    lossy = {"LossyImageCompressionRatio": "10", "LossyImageCompressionMethod": "ISO_15444_1"}
    write_ct(tmp_path / "scan", hu, LossyImageCompression="01", **lossy)
    source = read_volume(tmp_path / "scan")
    data = derived(source, source.voxels, tmp_path / "out")
    assert {name: data.get(name) for name in lossy} == {
        "LossyImageCompressionRatio": 10,
        "LossyImageCompressionMethod": "ISO_15444_1",
    }


def test_a_description_in_korean_survives_and_so_do_names(
    tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]
) -> None:
    write_ct(tmp_path / "scan", hu, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")
    source = read_volume(tmp_path / "scan")
    write_like(source.like(source.voxels), tmp_path / "out", kind="image", description="뇌출혈")
    data = pydicom.dcmread(tmp_path / "out" / "0001.dcm")
    assert (data.SpecificCharacterSet, data.SeriesDescription) == ("ISO_IR 192", "medkit 뇌출혈")
    assert data.PatientName == "Müller^Jörg"


@pytest.mark.parametrize("name", ["SOPInstanceUID", "SOPClassUID"])
def test_a_source_that_cannot_be_named_is_told_before_the_work(
    tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None], name: str
) -> None:
    write_ct(tmp_path / "scan", hu)
    change(tmp_path / "scan" / "0002.dcm", **{name: None})
    source = read_volume(tmp_path / "scan")
    with pytest.raises(InputError, match=rf"0002\.dcm \(0008,001[68]\) {name}: missing"):
        check_output(source, tmp_path / "out")
    check_output(source, tmp_path / "out.nii.gz")


def test_a_result_that_is_not_finite_is_not_written(
    tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]
) -> None:
    write_ct(tmp_path / "scan", hu)
    source = read_volume(tmp_path / "scan")
    with pytest.raises(RunError, match="1 voxels of the result are not finite"):
        derived(source, np.where(np.arange(128).reshape(2, 8, 8) == 5, np.nan, 0.0), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_that_could_not_be_written_is_told_before_the_work(
    tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]
) -> None:
    write_ct(tmp_path / "scan", hu)
    scan = read_volume(tmp_path / "scan")
    check_output(scan, tmp_path / "new")
    with pytest.raises(InputError, match="the output exists"):
        check_output(scan, tmp_path / "scan")
    with pytest.raises(InputError, match=r"has to end in \.nii or \.nii\.gz"):
        check_output(Volume(hu), tmp_path / "new")
