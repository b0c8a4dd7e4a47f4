"""Where slices lie is judged on all of them: what is no stack is refused, and every format gives one array."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from helpers import edit_dicom

from medkit.data.io import read_volume, write_like
from medkit.data.volume import Volume
from medkit.errors import InputError

Write = Callable[..., None]


@pytest.fixture
def series(tmp_path: Path, write_ct: Write) -> Callable[..., Path]:
    """``series(places, thickness=None)`` writes slices at (x, y, z) or z in mm, with a thickness each or none."""

    def make(places: Sequence, thickness: Sequence[float] | float | None = None, **tags: object) -> Path:
        folder = tmp_path / f"series{len(list(tmp_path.iterdir()))}"
        hu = np.random.default_rng(0).integers(-1000, 1000, (len(places), 6, 8)).astype(np.int16)
        write_ct(folder, hu, **tags)
        for i, place in enumerate(places):
            own = thickness[i] if isinstance(thickness, Sequence) else thickness
            position = list(place) if isinstance(place, Sequence) else [-12, -12, place]
            edit_dicom(folder / f"{i + 1:04d}.dcm", ImagePositionPatient=position, SliceThickness=own)
        return folder

    return make


@pytest.mark.parametrize(("distance", "thickness"), [(2.0, 3), (2.5, 5), (0.625, 1.25), (0.8, 1), (5, 5), (5, None)])
@pytest.mark.parametrize("lost", [[6], [3, 7], [5, 7]])
def test_lost_slices_are_noticed_whatever_the_thickness(series, distance: float, thickness: float, lost: list) -> None:
    places = [i * distance for i in range(12) if i not in lost]
    with pytest.raises(InputError, match=r"\(0020,0032\) ImagePositionPatient: slices are missing.*--allow-gaps"):
        read_volume(series(places, thickness))


def test_allow_gaps_keeps_each_slice_in_its_place_and_says_so(series) -> None:
    with pytest.warns(UserWarning, match="slices are missing"):
        volume = read_volume(series([0, 5, 10, 25, 30], 5), allow_gaps=True)
    assert volume.positions is not None
    assert volume.positions[:, 2].tolist() == [0, 5, 10, 25, 30]
    assert any("slices are missing" in note for note in volume.notes)


@pytest.mark.parametrize(
    ("places", "thickness"),
    [
        ([0, 2.5, 5, 7.5, 10, 17.5, 25, 32.5], [2.5] * 5 + [7.5] * 3),
        ([0, 2.5, 5, 7.5, 10, 10.25, 17.75, 25.25, 32.75], [2.5] * 5 + [7.5] * 4),
        ([0, 4.2, 8.4, 12.6, 20, 27.4, 34.8], None),
        ([0, 2.5, 5, 7.5, 12.5, 17.5, 22.5], None),
        ([0, 7.5, 15, 22.5, 25, 27.5, 30], [7.5] * 3 + [2.5] * 4),
    ],
)
def test_thin_slices_before_or_after_thick_ones_keep_their_places(series, places: list, thickness: object) -> None:
    volume = read_volume(series(places, thickness))
    assert volume.positions is not None
    np.testing.assert_allclose(volume.positions[:, 2], places)


def test_small_variations_are_even(series) -> None:
    rng = np.random.default_rng(0)
    volume = read_volume(series([float(z) for z in np.arange(8) * 1.25 + rng.uniform(-0.004, 0.004, 8)], 1.25))
    assert volume.positions is None
    jittered = [[-12 + rng.uniform(-0.05, 0.05), -12, 2.5 * i] for i in range(8)]
    assert read_volume(series(jittered, 2.5)).depth == 8


@pytest.mark.parametrize("tilt", [0.0, 0.3])
@pytest.mark.parametrize(("moved", "by"), [(range(4, 8), 30), (range(4, 8), -12), ([5], 12), ([3], 4)])
def test_a_sideways_jump_is_no_tilt(series, tilt: float, moved: Sequence[int], by: float) -> None:
    places = [[-12 + by * (i in moved), -12 + tilt * 5 * i, 5 * i] for i in range(8)]
    with pytest.raises(InputError, match="do not lie in one line"):
        read_volume(series(places, 5))


def test_two_slices_far_beside_each_other_are_no_stack(series) -> None:
    with pytest.raises(InputError, match="leans by 81 degrees"):
        read_volume(series([[0, 0, 0], [30, 0, 5]], 5))


def test_a_consistent_tilt_stays_in_the_affine(series) -> None:
    volume = read_volume(series([[-12, -12 + 1.5 * i, 5 * i] for i in range(5)], 5))
    assert volume.positions is None
    np.testing.assert_allclose(volume.affine[:3, 0], [0, 1.5, 5])


def test_interleaved_scans_are_refused(series) -> None:
    with pytest.raises(InputError, match=r"distances alternate between 2\.30 and 2\.70 mm"):
        read_volume(series([0, 2.3, 5, 7.3, 10, 12.3, 15], 5))


def test_an_extra_slice_between_others_is_refused(series) -> None:
    with pytest.raises(InputError, match=r"lies 2\.\d0 mm after .*two scans in one series"):
        read_volume(series([0, 5, 10, 12.1, 15, 20, 25], 5))


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"PixelSpacing": [0.8, 0.7]}, r"\(0028,0030\) PixelSpacing: pixel size differs"),
        ({"PixelSpacing": [-0.7, 0.7]}, r"PixelSpacing: -0\.7 x 0\.7 mm is not a pixel size"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, r"\(0020,0037\).*not at right angles"),
    ],
)
def test_one_odd_slice_in_the_middle_names_file_and_tag(series, tags: dict, message: str) -> None:
    folder = series([0, 5, 10, 15, 20], 5)
    edit_dicom(folder / "0003.dcm", **tags)
    with pytest.raises(InputError, match=rf"0003\.dcm {message}" if message.startswith(r"\(") else message):
        read_volume(folder)


@pytest.mark.parametrize(
    "orientation",
    [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), (1, 0, 0, 0, -1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)],
    ids=["supine", "prone", "feet first", "coronal", "sagittal"],
)
def test_a_dicom_series_is_the_array_of_its_nifti_file_and_is_written_back_in_its_own_order(
    tmp_path: Path, write_ct: Write, orientation: tuple
) -> None:
    hu = np.random.default_rng(0).integers(-1000, 1000, (4, 6, 8)).astype(np.int16)
    write_ct(tmp_path / "in", hu)
    across = np.cross(orientation[:3], orientation[3:])
    for i in range(4):
        edit_dicom(
            tmp_path / "in" / f"{i + 1:04d}.dcm",
            ImageOrientationPatient=list(orientation),
            ImagePositionPatient=[float(v) for v in across * 3 * i],
        )
    volume = read_volume(tmp_path / "in")
    affine = np.eye(4)  # of the file's own order: column, row, slice
    affine[:3, :3] = np.stack([0.7 * np.array(orientation[:3]), 0.7 * np.array(orientation[3:]), 3 * across], 1)
    ras = np.diag([-1, -1, 1, 1]) @ affine
    nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0), ras), tmp_path / "same.nii")
    same = read_volume(tmp_path / "same.nii")
    assert np.array_equal(volume.voxels, same.voxels)
    assert volume.same_grid(same) is None
    mask = (volume.voxels > 0).astype(np.uint8)
    write_like(volume.like(mask), tmp_path / "mask", kind="mask", description="test")
    for i in range(4):
        assert np.array_equal(pydicom.dcmread(tmp_path / "mask" / f"{i + 1:04d}.dcm").pixel_array, hu[i] > 0)
    back = read_volume(tmp_path / "mask")
    assert np.array_equal(back.voxels, mask)
    assert volume.same_grid(back) is None


def test_slices_of_varying_distance_that_are_turned_keep_their_places(series) -> None:
    z = [0, 2.5, 5, 7.5, 10, 17.5, 25, 32.5]
    folder = series(z, [2.5] * 5 + [7.5] * 3, ImageOrientationPatient=[1, 0, 0, 0, -1, 0])
    volume = read_volume(folder)
    assert volume.positions is not None
    assert volume.positions[:, 2].tolist() == z  # from low to high, although the normal points down
    np.testing.assert_allclose(volume.positions[:, 1], -12 - 0.7 * 5)  # rows run to the back now


def grid(places: Sequence[float], **changes: np.ndarray) -> Volume:
    positions = np.array([[0.0, 0, z] for z in places])
    affine = np.array([[0, 0, 0.5, 0], [0, 0.5, 0, 0], [(places[-1] - places[0]) / (len(places) - 1), 0, 0, 0]])
    affine = np.vstack([affine, [0, 0, 0, 1]])
    return Volume(np.zeros((len(places), 16, 16), np.uint8), changes.get("affine", affine), positions)


def test_grids_are_compared_slice_by_slice_and_axis_by_axis() -> None:
    first = grid([0, 1, 2, 3, 8, 13])
    assert first.same_grid(grid([0, 1, 2, 3, 8, 13])) is None
    assert first.same_grid(grid([0, 5, 10, 11, 12, 13])) is not None
    swapped = first.affine[:, [0, 2, 1, 3]]
    assert first.same_grid(grid([0, 1, 2, 3, 8, 13], affine=swapped)) is not None
    shifted = first.affine.copy()
    shifted[0, 3] = 0.25
    even = Volume(first.voxels, first.affine)
    assert even.same_grid(Volume(first.voxels, shifted)) is not None


def test_an_orientation_rounded_by_a_nifti_qform_is_the_same_grid() -> None:
    angle = np.radians(0.05)  # near half a turn about z, where the quaternion's first number is small
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.488281, -0.488281, 0.625])
    header = nibabel.Nifti1Header()
    header.set_data_shape((512, 512, 400))
    header.set_qform(affine, 1)
    voxels = np.broadcast_to(np.uint8(0), (400, 512, 512))
    exact, rounded = (Volume(voxels, matrix[:, [2, 1, 0, 3]]) for matrix in (affine, header.get_qform()))
    assert exact.same_grid(rounded) is None


def test_the_last_images_of_an_acquisition_are_missed_by_their_number(series) -> None:
    folder = series([0, 5, 10, 15], 5, ImagesInAcquisition=6)
    with pytest.warns(UserWarning, match="only 4 of its acquisition's 6 images"):
        assert read_volume(folder).notes


@pytest.mark.parametrize("tag", ["FrameOfReferenceUID", "StudyInstanceUID"])
def test_two_frames_of_reference_or_studies_are_two_scans_that_can_be_read_as_they_are(series, tag: str) -> None:
    folder = series([0, 5, 10, 15, 20, 25], 5.0)
    for path in sorted(folder.iterdir())[3:]:
        edit_dicom(path, **{tag: "1.2.3.99"})
    for path in sorted(folder.iterdir())[:3]:
        edit_dicom(path, **{tag: "1.2.3.98"})
    with pytest.raises(InputError, match=rf"{tag} differs from that of .*: two scans in one series\?.*--allow-gaps"):
        read_volume(folder)
    with pytest.warns(UserWarning, match=f"{tag} differs from that of"):
        assert read_volume(folder, allow_gaps=True).notes


def test_slices_of_two_patients_are_no_series_and_neither_is_named(series) -> None:
    folder = series([0, 5, 10, 15], 5.0)
    for i, path in enumerate(sorted(folder.iterdir())):
        edit_dicom(path, PatientID=f"SECRET{i // 2}")
    with pytest.raises(InputError, match=r"\(0010,0020\) PatientID: PatientID differs") as error:
        read_volume(folder, allow_gaps=True)
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize(("tags", "said"), [({}, True), ({"SpacingBetweenSlices": 5.0}, True), ({}, False)])
def test_slices_that_all_lie_further_apart_than_they_are_thick_are_told(series, tags, said: bool) -> None:
    folder = series([0, 10, 20, 30], (5.0 if said and not tags else 10.0), **tags)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        notes = read_volume(folder).notes
    assert [note.startswith("slices lie 10 mm apart, but S") for note in notes] == [True] * said


@pytest.mark.parametrize("at", [150, 400, 500, 600])
def test_a_last_slice_that_is_cut_inside_its_header_is_no_report(series, at: int) -> None:
    folder = series([0, 5, 10, 15], 5.0)
    last = sorted(folder.iterdir())[-1]
    last.write_bytes(last.read_bytes()[:at])
    with pytest.raises(InputError, match="is the file cut short"):
        read_volume(folder)


@pytest.mark.parametrize(
    ("name", "content"), [("IM3", b""), ("IM3", b"x" * 100), ("IM3.dcm.gz", b"x"), ("IM3.part", b"")]
)
def test_a_file_named_as_the_images_are_is_not_left_out_in_silence(series, name: str, content: bytes) -> None:
    folder = series([0, 5, 10, 15], 5.0)
    for i, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"IM{i}")
    (folder / "README").write_text("notes")
    (folder / "DICOM1.txt").write_text("notes")
    assert read_volume(folder).depth == 4
    (folder / "IM3").unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match="named like the images beside it"):
        read_volume(folder)


@pytest.mark.parametrize(("thicker", "whole"), [(10.0, True), (5.3, False), (6.0, False)])
def test_a_small_change_of_thickness_excuses_no_gap_of_twice_the_distance(series, thicker: float, whole: bool) -> None:
    folder = series([0, 5, 10, 15, 25, 35, 45, 55], [5.0] * 4 + [thicker] * 4)
    if whole:
        assert read_volume(folder).positions is not None
        return
    with pytest.raises(InputError, match=r"slices are missing: 10\.00 mm after"):
        read_volume(folder)
