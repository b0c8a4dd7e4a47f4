"""Headers that lack or contradict what reading needs: refused, or mended by name and told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from helpers import edit_dicom, enhanced

from medkit.data.io import read_volume
from medkit.data.mend import Mend
from medkit.data.source import ManifestSource
from medkit.errors import InputError
from medkit.recipe import recipe_from

HU = np.full((3, 16, 16), -1000)
HU[:, 4:12, 4:12] = 40


@pytest.fixture
def series(tmp_path: Path, write_ct: Callable[..., None]) -> Path:
    write_ct(tmp_path / "ct", HU)
    return tmp_path / "ct"


def read(path: Path, *mend: Any) -> Any:
    return read_volume(path, mend=Mend.of(mend))


def test_ct_without_rescale_is_taken_as_was_said_and_what_it_says_itself_stays(series: Path) -> None:
    edit_dicom(series / "0001.dcm", RescaleIntercept=None, RescaleSlope=None)
    edit_dicom(series / "0002.dcm", RescaleIntercept=-1000)
    with pytest.raises(InputError, match=r"RescaleIntercept.*missing in a CT image.*'mend: \[rescale\]'"):
        read(series)
    volume = read(series, "rescale")
    assert volume.units == "HU"
    assert [int(image.min()) for image in volume.voxels] == [-1000, -976, -1000]
    assert volume.notes == (
        "1 images without RescaleSlope or RescaleIntercept were read with slope 1 and intercept -1024",
    )


def test_frames_of_an_enhanced_file_are_mended_too(series: Path) -> None:
    path = series.parent / "frames.dcm"
    enhanced(series, path)
    data = pydicom.dcmread(path)
    del data.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    data.save_as(path)
    with pytest.raises(InputError, match="missing in a CT image"):
        read(path)
    assert np.array_equal(read(path, "rescale").voxels, HU)


@pytest.mark.parametrize("meta", ["with", "without"])
def test_files_without_a_preamble_are_read_where_that_is_said(series: Path, meta: str) -> None:
    for path in series.iterdir():
        content = path.read_bytes()
        length = 0 if meta == "with" else 12 + int.from_bytes(content[140:144], "little")
        path.write_bytes(content[132 + length :])
    with pytest.raises(InputError, match=r"without its preamble.*'mend: \[preamble\]'"):
        read(series)
    volume = read(series, "preamble")
    assert np.array_equal(volume.voxels, HU)
    assert volume.notes[0].startswith("3 images without preamble were read as DICOM")


def test_pixels_that_cannot_be_unsigned_are_signed_where_that_is_said(series: Path) -> None:
    for path in series.iterdir():
        pixels = HU[0].astype("<i2").tobytes()
        edit_dicom(path, BitsStored=16, HighBit=15, RescaleIntercept=0, PixelData=pixels)
    with pytest.raises(InputError, match=r"PixelRepresentation.*'mend: \[signed\]'"):
        read(series)
    volume = read(series, "signed")
    assert np.array_equal(volume.voxels, HU)
    assert volume.notes == ("3 images declared unsigned (PixelRepresentation) were read as signed",)


def test_a_manifest_says_what_was_assumed_and_makes_other_samples(series: Path) -> None:
    path = series.parent / "m.csv"
    path.write_text("image,patient\nct,P1\n")
    for file in series.iterdir():
        edit_dicom(file, RescaleIntercept=None)
    plain, mended = ManifestSource(path), ManifestSource(path, mend=("rescale",), rescale=(1, -1000))
    case = mended.cases()[0]
    assert mended.load(case).image.voxels.min() == -976
    assert mended.identity(case) != plain.identity(plain.cases()[0])
    assert "read with slope 1 and intercept -1000" in mended.notice
    assert not plain.notice


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"mend": ["rescal"]}, r"source\.mend: \['rescal'\] is not .*'rescale'"),
        ({"mend": ["rescale"], "rescale": [1]}, r"source\.rescale"),
    ],
)
def test_what_cannot_be_mended_is_refused_before_data_are_read(said: dict[str, Any], message: str) -> None:
    source = {"use": "manifest", "path": "nowhere.csv", **said}
    objective = {
        "use": "multitask",
        "encoder": {"use": "timm", "model": "test_resnet"},
        "heads": {"cls": {"use": "smartnet:slice_class"}},
    }
    block = {"source": source, "splits": {"train": {"fold": "train"}, "test": {"fold": "test"}}}
    with pytest.raises(InputError, match=message):
        recipe_from({"medkit": 1, "name": "m", "data": {"d": block}, "stages": [{"name": "s", "objective": objective}]})


def test_a_slope_of_0_makes_no_values() -> None:
    with pytest.raises(InputError, match="a slope other than 0"):
        ManifestSource(Path("m.csv"), mend=("rescale",), rescale=(0, -1024))
