"""One series has one scale: inverted as a whole or not at all, and refused where slices measure different things."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers import edit_dicom, enhanced

from medkit.data.io import read_volume, write_like
from medkit.errors import InputError

Write = Callable[..., None]
MR, PET = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128"
TISSUE = 100


def stored() -> np.ndarray:
    """(4,8,8) numbers: tissue everywhere, and in each slice a brighter voxel than in the one before."""
    made = np.full((4, 8, 8), TISSUE)
    made[:, 0, 0] = [200, 300, 400, 500]
    made[:, 0, 1] = [7, 5, 6, 9]
    return made


def series(folder: Path, write_ct: Write, numbers: np.ndarray, **tags: object) -> Path:
    """A series of another modality with these stored numbers and without a rescale."""
    write_ct(folder, numbers - 1024, **{"Modality": "MR", "SOPClassUID": MR, **tags})
    for path in folder.iterdir():
        given = {name: tags.get(name) for name in ("RescaleSlope", "RescaleIntercept")}
        edit_dicom(path, **given)
    return folder


def test_a_series_in_monochrome1_is_inverted_as_a_whole(tmp_path: Path, write_ct: Write) -> None:
    folder = series(tmp_path / "mr", write_ct, stored(), PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(read_volume(folder).voxels, 505 - stored())


def test_frames_in_monochrome1_are_inverted_as_a_whole(tmp_path: Path, write_ct: Write) -> None:
    rescale = {"RescaleSlope": 1, "RescaleIntercept": 0}
    folder = series(tmp_path / "mr", write_ct, stored(), PhotometricInterpretation="MONOCHROME1", **rescale)
    enhanced(folder, tmp_path / "frames.dcm")
    data = pydicom.dcmread(tmp_path / "frames.dcm")
    data.SOPClassUID = pydicom.uid.EnhancedMRImageStorage
    del data.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    data.save_as(tmp_path / "frames.dcm")
    assert np.array_equal(read_volume(tmp_path / "frames.dcm").voxels, 505 - stored())


def test_padding_takes_no_part_in_the_inversion_of_a_series(tmp_path: Path, write_ct: Write) -> None:
    numbers = stored()
    numbers[:, 7], numbers[3] = 4000, 4000
    folder = series(tmp_path / "mr", write_ct, numbers, PhotometricInterpretation="MONOCHROME1")
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        data.add_new("PixelPaddingValue", "US", 4000)
        data.save_as(path)
    voxels = read_volume(folder).voxels
    assert np.array_equal(voxels[:3, :7], 405 - numbers[:3, :7])  # 5 and 400 are the smallest and the largest
    assert [int(image[7].max()) for image in voxels[:3]] == [405 - 200, 405 - 300, 405 - 400]  # darkest of their slice
    assert (voxels[3] == 5).all()


def test_inverted_slices_of_several_slopes_are_inverted_and_written_as_a_whole(tmp_path: Path, write_ct: Write) -> None:
    slopes = [1, 2.5, 1, 0.3]
    folder = series(
        tmp_path / "mr", write_ct, stored(), PhotometricInterpretation="MONOCHROME1", RescaleSlope=1, RescaleIntercept=0
    )
    for path, slope in zip(sorted(folder.iterdir()), slopes, strict=True):
        edit_dicom(path, RescaleSlope=slope)
    source = read_volume(folder)
    values = stored() * np.array(slopes)[:, None, None]
    np.testing.assert_allclose(source.voxels, values.min() + values.max() - values, rtol=1e-5)
    new = source.voxels.copy()
    new[:, 4, 4] += [3, 5, 3, 3]
    write_like(source.like(new), tmp_path / "out", kind="image", description="test")
    written = np.stack([pydicom.dcmread(path).pixel_array for path in sorted((tmp_path / "out").iterdir())])
    expected = stored()
    expected[:, 4, 4] -= [3, 2, 3, 10]
    assert np.array_equal(written, expected)


@pytest.mark.parametrize("slope", [0.1, 1.7])
def test_ct_in_monochrome1_is_written_as_it_is_read(tmp_path: Path, write_ct: Write, slope: float) -> None:
    write_ct(tmp_path / "ct", stored() - 1024, PhotometricInterpretation="MONOCHROME1", RescaleSlope=slope)
    source = read_volume(tmp_path / "ct")
    new = source.voxels.copy()
    new[:, 4, 4] += 20
    write_like(source.like(new), tmp_path / "out", kind="image", description="test")
    np.testing.assert_allclose(read_volume(tmp_path / "out").voxels, new, atol=slope / 2)


def test_a_series_of_which_one_slice_is_inverted_is_refused(tmp_path: Path, write_ct: Write) -> None:
    folder = series(tmp_path / "mr", write_ct, stored())
    edit_dicom(folder / "0003.dcm", PhotometricInterpretation="MONOCHROME1")
    with pytest.raises(InputError, match=r"0003\.dcm \(0028,0004\) PhotometricInterpretation: .*MONOCHROME1"):
        read_volume(folder)
    write_ct(tmp_path / "ct", stored() - 1024)
    edit_dicom(tmp_path / "ct" / "0003.dcm", PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(read_volume(tmp_path / "ct").voxels, stored() - 1024)  # HU, however it is shown


@pytest.mark.parametrize(
    ("tag", "value"),
    [("RescaleSlope", None), ("RescaleIntercept", None), ("Units", "CNTS"), ("Units", None), ("RescaleType", "SUV")],
)
def test_a_slice_in_other_units_than_its_series_is_refused(
    tmp_path: Path, write_ct: Write, tag: str, value: str | None
) -> None:
    folder = series(
        tmp_path / "pet",
        write_ct,
        stored(),
        **{"Modality": "PT", "SOPClassUID": PET, "Units": "BQML", "RescaleSlope": 2.5, "RescaleIntercept": 0},
    )
    edit_dicom(folder / "0002.dcm", RescaleSlope=3.5)
    assert read_volume(folder).voxels[:, 4, 4].tolist() == [250, 350, 250, 250]
    edit_dicom(folder / "0003.dcm", **{tag: value})
    with pytest.raises(InputError, match=rf"0003\.dcm \(\w{{4}},\w{{4}}\) {tag}: "):
        read_volume(folder)


def test_a_slope_of_one_may_be_left_out(tmp_path: Path, write_ct: Write) -> None:
    folder = series(tmp_path / "mr", write_ct, stored(), RescaleSlope=1, RescaleIntercept=0)
    edit_dicom(folder / "0003.dcm", RescaleSlope=None, RescaleIntercept=None)
    assert np.array_equal(read_volume(folder).voxels, stored())
