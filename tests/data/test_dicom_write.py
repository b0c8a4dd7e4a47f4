"""A derived DICOM series: its values, its padding, where it says it comes from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medkit.data.io import check_output, read_volume, write_like
from medkit.data.volume import Volume
from medkit.errors import InputError


@pytest.fixture
def hu() -> np.ndarray:
    """(2,8,8) HU with padding of -1024 around it."""
    hu = np.full((2, 8, 8), -1024)
    hu[:, 2:6, 2:6] = 30
    return hu


def derived(source: Volume, voxels: np.ndarray, folder: Path) -> pydicom.Dataset:
    write_like(source.like(voxels), folder, kind="image", description="test")
    return pydicom.dcmread(folder / "0001.dcm")


def test_padding_keeps_its_values_and_its_name(tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]) -> None:
    write_ct(tmp_path / "scan", hu, PixelPaddingValue=0)
    source = read_volume(tmp_path / "scan")
    data = derived(source, source.voxels + np.float32(3.4), tmp_path / "out")
    assert (data.PixelPaddingValue, data["PixelPaddingValue"].VR) == (-1024, "SS")
    assert np.array_equal(data.pixel_array, np.where(hu[0] == -1024, -1024, 33))


def test_a_range_of_padding_stays_a_range(tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]) -> None:
    hu[0, 0, 0] = -1020
    write_ct(tmp_path / "scan", hu, PixelPaddingValue=0, PixelPaddingRangeLimit=10)
    data = derived(read_volume(tmp_path / "scan"), np.full(hu.shape, 7), tmp_path / "out")
    assert (data.PixelPaddingValue, data.PixelPaddingRangeLimit) == (-1024, -1014)
    assert data.pixel_array[0, 0] == -1020


def test_padding_that_new_values_would_be_taken_for_loses_its_name(
    tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]
) -> None:
    write_ct(tmp_path / "scan", hu, PixelPaddingValue=0)
    data = derived(read_volume(tmp_path / "scan"), np.full(hu.shape, -1024), tmp_path / "out")
    assert "PixelPaddingValue" not in data
    assert (data.pixel_array == -1024).all()


def test_values_are_whole_hu_whatever_the_source_was_stored_in(
    tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]
) -> None:
    write_ct(tmp_path / "scan", hu, RescaleSlope="0.5", RescaleIntercept="-500")
    source = read_volume(tmp_path / "scan")
    data = derived(source, source.voxels + 0.4, tmp_path / "out")
    assert (data.RescaleSlope, data.RescaleIntercept) == (1, 0)
    assert np.array_equal(read_volume(tmp_path / "out").voxels, np.rint(source.voxels + 0.4))


def test_every_slice_names_the_one_it_was_made_from_and_keeps_who_it_shows(
    tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]
) -> None:
    write_ct(tmp_path / "scan", hu, PatientID="P1", BurnedInAnnotation="NO", InstanceCreationDate="20200101")
    source = read_volume(tmp_path / "scan")
    derived(source, source.voxels, tmp_path / "out")
    for name in ("0001.dcm", "0002.dcm"):
        old, new = pydicom.dcmread(tmp_path / "scan" / name), pydicom.dcmread(tmp_path / "out" / name)
        (reference,) = new.SourceImageSequence
        assert reference.ReferencedSOPClassUID == old.SOPClassUID
        assert reference.ReferencedSOPInstanceUID == old.SOPInstanceUID
        assert (new.PatientID, new.BurnedInAnnotation) == ("P1", "NO")
        assert new.ImagePositionPatient == old.ImagePositionPatient
        assert "InstanceCreationDate" not in new


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
