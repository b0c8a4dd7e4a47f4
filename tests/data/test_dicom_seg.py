"""Masks as DICOM Segmentation objects: written by highdicom, and read on the image's grid, whatever that is."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pydicom.sr.codedict
import pytest
from helpers import edit_dicom, enhanced, grouped

from medkit.data.dataset import Dataset
from medkit.data.dicom_seg import Segment, read_mask, read_segments
from medkit.data.dicom_seg_types import ABNORMAL, HEMORRHAGE, REGIONS, TISSUE
from medkit.data.dicom_seg_write import write_segments
from medkit.data.io import read_volume, write_like
from medkit.data.source import ManifestSource
from medkit.data.volume import Volume
from medkit.errors import InputError
from medkit.protocols.classes import Classes

highdicom = pytest.importorskip("highdicom", reason="the extra 'seg' is not installed")
validators = pytest.mark.skipif(
    not (shutil.which("dciodvfy") and shutil.which("dcmftest")),
    reason="dciodvfy and dcmftest are not installed (apt-get install dicom3tools dcmtk)",
)
REAL = ("head_ct_ge_tilt", "phantom_ct_philips_tilt")
TILT = [1, 0, 0, 0, 0.94, -0.3411744]
CORONAL = [1, 0, 0, 0, 0, -1]
PLACES = {
    "even": lambda z: {"ImagePositionPatient": [-12, -12, 3 * z]},
    "tilted": lambda z: {"ImagePositionPatient": [-12, -12, 3 * z], "ImageOrientationPatient": TILT},
    "uneven": lambda z: {
        "ImagePositionPatient": [-12, -12, [0, 3, 6, 11, 16][z]],
        "SliceThickness": [3, 3, 3, 5, 5][z],
    },
    "uneven and turned": lambda z: {
        "ImagePositionPatient": [12, -12, [0, 3, 6, 11, 16][z]],
        "ImageOrientationPatient": [-1, 0, 0, 0, 1, 0],
        "SliceThickness": [3, 3, 3, 5, 5][z],
    },
    "coronal": lambda z: {"ImagePositionPatient": [-12, 3 * z, 12], "ImageOrientationPatient": CORONAL},
}


@pytest.fixture
def scan(tmp_path: Path, write_ct: Callable[..., None]) -> Callable[[str], Path]:
    """``scan(kind)`` writes a series of five slices that lie as ``PLACES`` says."""

    def write(kind: str) -> Path:
        hu = np.random.default_rng(0).integers(-1000, 1500, (5, 16, 24)).astype(np.int16)
        write_ct(tmp_path / "scan", hu)
        for z, path in enumerate(sorted((tmp_path / "scan").iterdir())):
            grouped(path)
            edit_dicom(path, **PLACES[kind](z))
        return tmp_path / "scan"

    return write


def spots(image: Volume) -> np.ndarray:
    """A mask with no symmetry, empty in the first slice."""
    mask = (np.random.default_rng(1).random(image.voxels.shape) < 0.2).astype(np.uint8)
    mask[0] = 0
    return mask


def written(image: Volume, path: Path, *masks: np.ndarray) -> Path:
    write_segments(
        image, [Segment(f"class {i}", mask) for i, mask in enumerate(masks, 1)], path, description="mask: test"
    )
    return path


@pytest.mark.parametrize("kind", PLACES)
def test_a_mask_comes_back_on_the_grid_of_its_image(kind: str, scan, tmp_path: Path) -> None:
    image = read_volume(scan(kind))
    mask = spots(image)
    assert np.array_equal(read_mask(written(image, tmp_path / "seg.dcm", mask), image).voxels, mask)


@pytest.mark.parametrize("kind", PLACES)
def test_highdicom_finds_in_each_slice_what_was_segmented_there(kind: str, scan, tmp_path: Path) -> None:
    image = read_volume(scan(kind))
    mask = spots(image)
    write_like(image.like(mask), tmp_path / "series", kind="mask", description="test")  # in the order of the files
    expected = np.stack([pydicom.dcmread(file).pixel_array for file in sorted((tmp_path / "series").iterdir())])
    made = highdicom.seg.segread(written(image, tmp_path / "seg.dcm", mask))
    names = [pydicom.dcmread(file).SOPInstanceUID for file in image.header["files"]]
    found = made.get_pixels_by_source_instance(names, ignore_spatial_locations=True)
    assert np.array_equal(found[..., 0], expected)


def test_simpleitk_loads_it_on_the_grid_of_the_image(scan, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = read_volume(scan("even"))
    mask = spots(image)
    found = sitk.ReadImage(str(written(image, tmp_path / "seg.dcm", mask)))
    source = sitk.ReadImage(image.header["files"])
    assert found.GetSize() == source.GetSize()
    np.testing.assert_allclose(found.GetSpacing(), source.GetSpacing())
    found = sitk.Resample(found, source, sitk.Transform(), sitk.sitkNearestNeighbor)  # it may count from the top
    assert np.array_equal(sitk.GetArrayFromImage(found) > 0, mask > 0)


def test_a_mask_of_an_enhanced_file_names_its_frames(scan, tmp_path: Path) -> None:
    folder = scan("tilted")
    enhanced(folder, tmp_path / "one.dcm")
    image = read_volume(tmp_path / "one.dcm")
    mask = spots(image)
    path = written(image, tmp_path / "seg.dcm", mask)
    assert np.array_equal(read_mask(path, image).voxels, mask)
    assert np.array_equal(read_mask(path, read_volume(folder)).voxels, mask)  # the same places, in files of their own


def test_segments_may_overlap_and_keep_their_names(scan, tmp_path: Path) -> None:
    image = read_volume(scan("even"))
    first, second = spots(image), np.ones_like(spots(image))
    path = written(image, tmp_path / "seg.dcm", first, second)
    found = read_segments(path, image)
    assert [segment.label for segment in found] == ["class 1", "class 2"]
    assert np.array_equal(found[0].mask, first)
    assert found[1].mask.all()
    with pytest.raises(InputError, match="a mask is one segment, but this segmentation has 2: 'class 1', 'class 2'"):
        read_mask(path, image)


def test_segments_named_as_bleeds_are_of_that_type_and_others_of_the_generic_one(scan, tmp_path: Path) -> None:
    image = read_volume(scan("even"))
    names = ["SAH", "subdural", "Intraparenchymal_Hemorrhage", "bleed", "oedema"]
    empty = np.zeros(image.voxels.shape, np.uint8)
    write_segments(image, [Segment(name, empty) for name in names], tmp_path / "s.dcm", description="test")
    found = pydicom.dcmread(tmp_path / "s.dcm").SegmentSequence
    types = [one.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for one in found]
    assert types == ["Hemorrhage"] * 4 + ["Tissue"]
    assert [one.SegmentedPropertyCategoryCodeSequence[0].CodeValue for one in found] == ["49755003"] * 4 + ["85756007"]
    places = [one.AnatomicRegionSequence[0].CodeMeaning if "AnatomicRegionSequence" in one else "" for one in found]
    assert places == ["Subarachnoid space", "", "Brain", "", ""]


def test_codes_of_segments_mean_what_dicom_s_dictionary_says() -> None:
    sct = pydicom.sr.codedict.codes.SCT
    known = (sct.Tissue, sct.MorphologicallyAbnormalStructure, sct.Hemorrhage, sct.Brain, sct.SubarachnoidSpace)
    coded = (TISSUE, ABNORMAL, HEMORRHAGE, REGIONS["iph"], REGIONS["sah"])
    assert [(one.value, one.meaning) for one in coded] == [(one.value, one.meaning) for one in known]


def test_segments_are_classes_by_their_labels(scan, tmp_path: Path) -> None:
    image = read_volume(scan("tilted"))
    one = spots(image)
    path = written(image, tmp_path / "seg.dcm", one, (1 - one) * spots(image)[::-1])
    mask = read_mask(path, image, Classes(("class 2", "class 1")))
    np.testing.assert_array_equal(mask.voxels == 2, one > 0)
    np.testing.assert_array_equal(mask.voxels > 0, (one + spots(image)[::-1]) > 0)
    with pytest.raises(InputError, match="the segment 'class 2' is not one of the classes"):
        read_mask(path, image, Classes(("class 1",)))


def test_classes_renamed_since_are_not_read_from_the_cache_under_their_old_numbers(scan, tmp_path: Path) -> None:
    image = read_volume(scan("even"))
    small, large = np.zeros((2, *image.voxels.shape), np.uint8)
    small[1, 0, 0], large[1, 2:4, 2:4] = 1, 1
    write_segments(image, [Segment("A", small), Segment("B", large)], tmp_path / "seg.dcm", description="x")
    (tmp_path / "m.csv").write_text("image,mask,patient\nscan,seg.dcm,P\n", encoding="utf-8")

    def voxels(*names: str) -> dict[str, int]:
        source = ManifestSource(tmp_path / "m.csv")
        dataset = Dataset(source, {"all": {}}, [], tmp_path / "cache", classes=Classes(names))
        mask = dataset.sample(dataset.cases("all")[0]).native_mask
        return {name: int((mask == number).sum()) for number, name in enumerate(names, 1)}

    assert voxels("A", "B") == voxels("B", "A") == {"A": 1, "B": 4}
    with pytest.raises(InputError, match="the segment 'B' is not one of the classes"):
        voxels("A", "C")


def test_segments_that_overlap_are_no_classes_that_exclude_each_other(scan, tmp_path: Path) -> None:
    image = read_volume(scan("even"))
    path = written(image, tmp_path / "seg.dcm", spots(image), spots(image))
    with pytest.raises(InputError, match="shares voxels with another"):
        read_mask(path, image, Classes(("class 1", "class 2")))
    both = read_mask(path, image, Classes(("class 1", "class 2"), overlapping=True))
    np.testing.assert_array_equal(both.voxels, 3 * spots(image))


def test_a_segmentation_of_some_slices_fits_a_nifti_of_the_same_scan(scan, tmp_path: Path) -> None:
    image = read_volume(scan("even"))
    mask = spots(image)
    path = written(image, tmp_path / "seg.dcm", mask)
    data = pydicom.dcmread(path)
    bits = 16 * 24 // 8
    data.PixelData, data.NumberOfFrames = data.PixelData[bits : 4 * bits], 3
    data.PerFrameFunctionalGroupsSequence = data.PerFrameFunctionalGroupsSequence[1:4]
    data.save_as(path)
    affine = np.diag([-1.0, -1, 1, 1]) @ image.affine[:, [2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(image.voxels.transpose(2, 1, 0)[::-1], affine @ flipped(24)), tmp_path / "i.nii")
    expected = mask.copy()
    expected[[0, 4]] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_mask(path, read_volume(tmp_path / "i.nii"))
    assert np.array_equal(found.voxels, expected)


def flipped(size: int) -> np.ndarray:
    """From indices of an array turned around in its first axis to those of the array."""
    turned = np.diag([-1.0, 1, 1, 1])
    turned[0, 3] = size - 1
    return turned


def test_a_label_map_is_read_too(scan, tmp_path: Path) -> None:
    image = read_volume(scan("tilted"))
    mask = spots(image)
    path = written(image, tmp_path / "seg.dcm", mask)
    data = pydicom.dcmread(path)
    numbers = data.pixel_array
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7"
    data.SegmentationType, data.BitsAllocated, data.BitsStored, data.HighBit = "LABELMAP", 8, 8, 7
    data.PixelData = numbers.astype(np.uint8).tobytes()
    for item in data.PerFrameFunctionalGroupsSequence:
        item.pop("SegmentIdentificationSequence", None)
    data.SharedFunctionalGroupsSequence[0].pop("SegmentIdentificationSequence", None)
    data.save_as(path)
    assert np.array_equal(read_mask(path, image).voxels, mask)


@pytest.mark.parametrize(
    ("tags", "match"),
    [
        ({"FrameOfReferenceUID": "1.2.3.99"}, r"\(0020,0052\).*the frame of reference differs from the image's"),
        ({"PatientID": "P2"}, r"\(0010,0020\) PatientID: the patient differs from the image's"),
        ({"SegmentationType": "FRACTIONAL"}, r"\(0062,0001\).*segments of type FRACTIONAL are not masks"),
        ({"SegmentSequence": None}, r"\(0062,0002\) SegmentSequence: missing"),
    ],
)
def test_a_segmentation_that_is_no_mask_of_the_image_is_refused_by_tag(tags, match: str, scan, tmp_path: Path) -> None:
    image = read_volume(scan("even"))
    edit_dicom(written(image, tmp_path / "seg.dcm", spots(image)), **tags)
    with pytest.raises(InputError, match=match):
        read_mask(tmp_path / "seg.dcm", image)


def test_a_frame_that_lies_on_no_slice_is_named(scan, tmp_path: Path) -> None:
    image = read_volume(scan("even"))
    path = written(image, tmp_path / "seg.dcm", spots(image))
    data = pydicom.dcmread(path)
    data.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient = [-12, -12, 7]
    data.save_as(path)
    with pytest.raises(InputError, match=r"\(0020,0032\) .*, frame 3: is on no slice of the image, but 1 mm from one"):
        read_mask(path, image)


def test_two_frames_of_a_segment_at_one_position_are_refused(scan, tmp_path: Path) -> None:
    image = read_volume(scan("even"))
    path = written(image, tmp_path / "seg.dcm", spots(image))
    frames = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    frames[2].PlanePositionSequence = frames[1].PlanePositionSequence
    edit_dicom(path, PerFrameFunctionalGroupsSequence=frames)
    with pytest.raises(
        InputError, match=r"ImagePositionPatient, frame 3: has the same segment and position as frame 2"
    ):
        read_segments(path, image)


def test_a_segmentation_beside_its_series_is_no_series(scan, tmp_path: Path) -> None:
    folder = scan("even")
    image = read_volume(folder)
    written(image, folder / "seg.dcm", spots(image))
    assert read_volume(folder).depth == 5
    with pytest.raises(InputError, match="a segmentation is read as the mask of its images"):
        read_volume(folder / "seg.dcm")


def test_a_manifest_takes_a_segmentation_as_mask(scan, tmp_path: Path) -> None:
    image = read_volume(scan("uneven"))
    mask = spots(image)
    (tmp_path / "seg").mkdir()
    written(image, tmp_path / "seg" / "1.dcm", mask)
    (tmp_path / "cases.csv").write_text("image,patient,mask\nscan,p1,seg\n")
    source = ManifestSource(tmp_path / "cases.csv")
    found = source.load(source.cases()[0]).mask
    assert found is not None
    assert np.array_equal(found.voxels, mask)


@pytest.mark.parametrize("tag", ["PatientID", "FrameOfReferenceUID"])
def test_a_series_of_masks_is_one_of_its_image_s_patient_and_place(tag: str, scan, tmp_path: Path) -> None:
    image = read_volume(scan("even"))
    write_like(image.like(spots(image)), tmp_path / "mask", kind="mask", description="test")
    for path in (tmp_path / "mask").iterdir():
        edit_dicom(path, **{tag: "1.2.3.99"})
    (tmp_path / "cases.csv").write_text("image,patient,mask\nscan,p1,mask\n")
    source = ManifestSource(tmp_path / "cases.csv")
    with pytest.raises(InputError, match=rf"{tag}: the (patient|frame of reference) differs from the image's"):
        source.load(source.cases()[0])


def test_images_without_what_a_segmentation_names_them_by_are_refused(scan, tmp_path: Path) -> None:
    folder = scan("even")
    edit_dicom(folder / "0003.dcm", FrameOfReferenceUID=None)
    image = read_volume(folder)
    with pytest.raises(InputError, match=r"0003\.dcm \(0020,0052\) FrameOfReferenceUID: missing"):
        written(image, tmp_path / "seg.dcm", spots(image))
    assert not (tmp_path / "seg.dcm").exists()


def test_names_of_patients_in_any_script_are_kept_and_not_told(scan, tmp_path: Path, capfd) -> None:
    folder = scan("even")
    for path in folder.iterdir():
        edit_dicom(path, SpecificCharacterSet="ISO_IR 192", PatientName="황보")
    image = read_volume(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = written(image, tmp_path / "seg.dcm", spots(image))
    assert str(pydicom.dcmread(path).PatientName) == "황보"
    assert "황보" not in "".join(capfd.readouterr())


def complaints(file: Path) -> set[str]:
    said = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
    return {line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")}


def check_valid(image: Volume, path: Path) -> None:
    """No error that the image has not too; a whole DICOM file."""
    assert complaints(path) - complaints(Path(image.header["files"][0])) == set()
    said = subprocess.run(["dcmftest", str(path)], capture_output=True, text=True, check=False)
    assert said.stdout.startswith("yes:")


@validators
@pytest.mark.parametrize("kind", PLACES)
def test_validators_accept_what_is_written(kind: str, scan, tmp_path: Path) -> None:
    image = read_volume(scan(kind))
    mask = spots(image)
    check_valid(image, written(image, tmp_path / "seg.dcm", mask, 1 - mask))
    segments = [Segment("SAH", mask), Segment("SDH", 1 - mask)]
    write_segments(image, segments, tmp_path / "bleeds.dcm", description="mask: test")
    check_valid(image, tmp_path / "bleeds.dcm")


@validators
@pytest.mark.parametrize("source", REAL)
def test_segmentations_of_real_tilted_scans_are_valid_and_read_back(source: str, shared: Path, tmp_path: Path) -> None:
    image = read_volume(shared / "realdata" / source)
    mask = (image.voxels > 40).astype(np.uint8)
    path = written(image, tmp_path / "seg.dcm", mask)
    check_valid(image, path)
    assert np.array_equal(read_mask(path, image).voxels, mask)
