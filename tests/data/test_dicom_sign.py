"""CT whose large numbers are declared negative is refused, in whatever form its pixels come; true negatives are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers import edit_dicom, enhanced

from medkit.data.io import read_volume
from medkit.errors import InputError

HU = np.full((3, 16, 16), -1000)
HU[:, 4:12, 4:12] = 40
HU[:, 4, 4:12] = 1400
"""A skull above 1023 HU, which is number 2048 at an intercept of -1024: the first that 12 signed bits do not hold."""


@pytest.fixture
def series(tmp_path: Path, write_ct: Callable[..., None]) -> Path:
    write_ct(tmp_path / "ct", HU)
    return tmp_path / "ct"


def compressed(folder: Path) -> Path:
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        data.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        data.save_as(path)
    return folder


def framed(folder: Path) -> Path:
    enhanced(folder, folder.parent / "frames.dcm")
    return folder.parent / "frames.dcm"


FORMS: Mapping[str, Callable[[Path], Path]] = {"plain": lambda folder: folder, "RLE": compressed, "frames": framed}


@pytest.mark.parametrize("form", FORMS)
def test_unsigned_ct_that_is_declared_signed_is_refused(series: Path, form: str) -> None:
    assert np.array_equal(read_volume(FORMS[form](series)).voxels, HU)
    for path in series.parent.rglob("*.dcm"):
        edit_dicom(path, PixelRepresentation=1)
    path = series if form != "frames" else series.parent / "frames.dcm"
    with pytest.raises(InputError, match=r"dcm \(0028,0103\) PixelRepresentation.*: .* as low as -2696 HU; .*dcmodify"):
        read_volume(path)


@pytest.mark.parametrize("extended", [True, False])
def test_signed_ct_is_read_with_and_without_a_sign_in_its_unused_bits(series: Path, extended: bool) -> None:
    for path, image in zip(sorted(series.iterdir()), HU, strict=True):
        raw = image.astype("<i2") if extended else (image & 0xFFF).astype("<u2")
        edit_dicom(path, PixelRepresentation=1, RescaleIntercept=0, PixelData=raw.tobytes())
    assert np.array_equal(read_volume(series).voxels, HU)


def test_padding_that_is_declared_may_be_as_low_as_it_likes(series: Path) -> None:
    for path, image in zip(sorted(series.iterdir()), HU, strict=True):
        numbers = image.clip(None, 1000) + 1024
        numbers[0] = -2000
        data = pydicom.dcmread(path)
        data.PixelRepresentation, data.PixelData = 1, (numbers & 0xFFF).astype("<u2").tobytes()
        data.add_new("PixelPaddingValue", "SS", -2000)
        data.save_as(path)
    assert (read_volume(series).voxels[:, 0] == -1024).all()
