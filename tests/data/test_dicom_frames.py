"""Enhanced multi-frame CT: every frame is read as the slice of its own that it could have been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers import enhanced, grouped

from medkit.data.io import read_volume
from medkit.errors import InputError

TILTED = {"ImageOrientationPatient": [1, 0, 0, 0, 0.94, -0.3411744]}


@pytest.fixture
def hu() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1500, (5, 12, 10)).astype(np.int16)


@pytest.fixture
def series(tmp_path: Path, hu: np.ndarray, write_ct: Callable[..., None]) -> Path:
    write_ct(tmp_path / "series", hu)
    return tmp_path / "series"


def place(folder: Path, heights: list[float], **tags: object) -> None:
    """Put the slices of a series elsewhere."""
    for path, height in zip(sorted(folder.iterdir()), heights, strict=True):
        data = pydicom.dcmread(path)
        data.ImagePositionPatient = [-12, -12, height]
        for name, value in tags.items():
            setattr(data, name, value)
        data.save_as(path)


@pytest.mark.parametrize(
    ("heights", "tags"),
    [([0, 3, 6, 9, 12], {}), ([0, 3, 6, 9, 12], TILTED), ([0, 2, 4, 9, 14], {})],
    ids=["even", "tilted", "uneven"],
)
def test_a_file_of_frames_reads_as_its_slices_do(series: Path, heights, tags, tmp_path: Path) -> None:
    place(series, heights, **tags)
    for path, thickness in zip(sorted(series.iterdir()), [2, 2, 2, 5, 5], strict=True):
        data = pydicom.dcmread(path)
        data.SliceThickness = thickness
        data.save_as(path)
    enhanced(series, tmp_path / "one.dcm")
    expected, found = read_volume(series), read_volume(tmp_path / "one.dcm")
    assert np.array_equal(found.voxels, expected.voxels)
    assert found.voxels.dtype == expected.voxels.dtype
    assert (found.units, found.same_grid(expected)) == ("HU", None)


def test_a_series_of_several_files_of_frames_is_one_volume(series: Path, hu: np.ndarray, tmp_path: Path) -> None:
    files = sorted(series.iterdir())
    (tmp_path / "two").mkdir()
    for name, some in (("upper", files[3:]), ("lower", files[:3])):
        (tmp_path / name).mkdir()
        for file in some:
            file.rename(tmp_path / name / file.name)
        enhanced(tmp_path / name, tmp_path / "two" / f"{name}.dcm")
    assert np.array_equal(read_volume(tmp_path / "two").voxels, hu)


def test_a_single_frame_is_read_from_its_functional_groups_too(series: Path, hu: np.ndarray, tmp_path: Path) -> None:
    for path in sorted(series.iterdir())[1:]:
        path.unlink()
    enhanced(series, tmp_path / "one.dcm")
    found = read_volume(tmp_path / "one.dcm")
    assert np.array_equal(found.voxels, hu[:1])
    np.testing.assert_allclose(found.spacing, [3, 0.7, 0.7])


@pytest.mark.parametrize(
    ("group", "tag"),
    [
        ("PixelValueTransformationSequence", r"\(0028,1052\) RescaleIntercept, frame 1: missing in a CT image"),
        ("PlanePositionSequence", r"\(0020,0032\) ImagePositionPatient, frame 1: missing"),
        ("PixelMeasuresSequence", r"\(0028,0030\) PixelSpacing, frame 1: missing"),
    ],
)
def test_a_frame_that_lacks_what_it_has_to_say_is_named(series: Path, group: str, tag: str, tmp_path: Path) -> None:
    enhanced(series, tmp_path / "one.dcm")
    data = pydicom.dcmread(tmp_path / "one.dcm")
    for item in (*data.SharedFunctionalGroupsSequence, *data.PerFrameFunctionalGroupsSequence):
        if group in item:
            delattr(item, group)
    data.save_as(tmp_path / "one.dcm")
    with pytest.raises(InputError, match=rf"one\.dcm {tag}"):
        read_volume(tmp_path / "one.dcm")


def test_fewer_functional_groups_than_frames_are_refused(series: Path, tmp_path: Path) -> None:
    enhanced(series, tmp_path / "one.dcm")
    data = pydicom.dcmread(tmp_path / "one.dcm")
    data.PerFrameFunctionalGroupsSequence = data.PerFrameFunctionalGroupsSequence[:4]
    data.save_as(tmp_path / "one.dcm")
    with pytest.raises(InputError, match=r"\(5200,9230\).*4 items for 5 frames"):
        read_volume(tmp_path / "one.dcm")


def test_two_phases_in_one_file_are_refused_by_the_place_of_their_frames(series: Path, tmp_path: Path) -> None:
    place(series, [0, 3, 6, 0, 3])
    enhanced(series, tmp_path / "one.dcm")
    with pytest.raises(InputError, match=r"frame 4: has the same position as frame 1 of one\.dcm"):
        read_volume(tmp_path / "one.dcm")


def test_scouts_among_frames_are_left_out(series: Path, hu: np.ndarray, tmp_path: Path) -> None:
    enhanced(series, tmp_path / "one.dcm")
    data = pydicom.dcmread(tmp_path / "one.dcm")
    kind = pydicom.Dataset()
    kind.FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    data.PerFrameFunctionalGroupsSequence[4].CTImageFrameTypeSequence = [kind]
    data.save_as(tmp_path / "one.dcm")
    assert np.array_equal(read_volume(tmp_path / "one.dcm").voxels, hu[:4])


def test_frames_that_highdicom_put_together_read_as_the_slices_they_came_from(series: Path, tmp_path: Path) -> None:
    highdicom = pytest.importorskip("highdicom")
    for path in series.iterdir():
        grouped(path)
    legacy = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        [pydicom.dcmread(path) for path in sorted(series.iterdir())], pydicom.uid.generate_uid(), 2, "1.2.3.9", 1
    )
    legacy.save_as(tmp_path / "legacy.dcm")
    expected, found = read_volume(series), read_volume(tmp_path / "legacy.dcm")
    assert np.array_equal(found.voxels, expected.voxels)
    assert (found.units, found.same_grid(expected)) == ("HU", None)


def test_a_real_file_of_frames_in_colour_is_refused(shared: Path) -> None:
    with pytest.raises(InputError, match=r"\(0008,9205\) PixelPresentation.*this is a colour image"):
        read_volume(shared / "realdata" / "dicom_awkward_pydicom" / "eCT_Supplemental.dcm")
