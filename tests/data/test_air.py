"""Air shows that numbers are HU: a population of it, while padding and a few voxels show nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from medkit.data.io import read_volume
from medkit.data.sample import prepare_record
from medkit.data.transforms import Window
from medkit.errors import InputError
from medkit.protocols import Case, Record
from medkit.runs.lowdose import simulate

CASE = Case("c", "p")
SHAPE = (4, 64, 64)
Y, X = np.ogrid[:64, :64]
FAR = np.hypot(Y - 31.5, X - 31.5) / 64


def head(noise: float = 10.0) -> np.ndarray:
    """(4,64,64) HU: air, skull, brain."""
    hu = np.full(SHAPE, -1000.0)
    hu[:, FAR < 0.42] = 900
    hu[:, FAR < 0.37] = 35
    return np.rint(np.random.default_rng(0).normal(hu, noise))


def nifti(path: Path, values: np.ndarray) -> Path:
    image = nibabel.Nifti1Image(values.astype(np.int16).transpose(2, 1, 0), np.diag([0.5, 0.5, 5, 1]))
    nibabel.save(image, path)
    return path


def shifted(**where: int) -> np.ndarray:
    """Stored numbers, 1024 above HU, with padding in corners."""
    numbers = head() + 1024
    numbers[:, FAR > 0.6] = where.get("corners", 0)
    numbers[0, 0, 0] = where.get("voxel", 0)
    return numbers


def rim() -> np.ndarray:
    """Stored numbers with padding of -2000 whose edge was interpolated."""
    numbers = shifted(corners=-2000)
    numbers[:, (FAR > 0.55) & (FAR <= 0.6)] = np.linspace(-2000, 24, int(((FAR > 0.55) & (FAR <= 0.6)).sum()))
    return numbers


def random(low: float, high: float) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, high, SHAPE)


@pytest.mark.parametrize(
    "numbers",
    [
        shifted(corners=-2000),
        shifted(corners=-3024),
        shifted(corners=-1500),
        shifted(voxel=-2000),
        shifted(voxel=-1000),
        rim(),
        random(-4096, 4095),  # the phase of an MR
        np.random.default_rng(0).normal(0, 500, SHAPE),  # its real part
        np.random.default_rng(0).normal(0, 2000, SHAPE).clip(-32000, 32000),
    ],
    ids=["-2000", "-3024", "-1500", "one padded", "one of air", "rim", "phase", "real", "wide"],
)
def test_nifti_without_a_population_of_air_is_doubted(tmp_path: Path, numbers: np.ndarray) -> None:
    path = nifti(tmp_path / "a.nii", numbers)
    volume = read_volume(path)
    assert volume.units is None
    assert "there is no air (about -1000)" in prepare_record(Record(volume), CASE, [Window()]).doubt
    with pytest.raises(InputError, match=r"noise insertion needs CT in HU.*there is no air"):
        simulate(path, tmp_path / "low.nii", 0.25)


def sinus() -> np.ndarray:
    """A crop of brain with a little air whose edge is blurred."""
    hu = head()[:, 20:44, 20:44]
    hu[1, 5:9, 5:9] = -450
    hu[1, 6:8, 6:8] = [[-980, -800], [-900, -700]]
    hu[2, 5:8, 5:8] = -950
    return hu


def padded(value: int) -> np.ndarray:
    hu = head()
    hu[:, FAR > 0.5] = value
    return hu


@pytest.mark.parametrize(
    "hu",
    [
        head(0),
        head(120),
        head().clip(-1000, 400),
        head() - 30,
        padded(-2000),
        padded(-3024),
        padded(-1024),
        np.random.default_rng(0).normal(-820, 90, SHAPE),
        sinus(),
        random(-1024, 3000),
    ],
    ids=["constant", "noisy", "clipped", "low air", "-2000", "-3024", "-1024", "lung", "sinus", "ramp"],
)
def test_nifti_with_air_is_in_hu(tmp_path: Path, hu: np.ndarray) -> None:
    assert read_volume(nifti(tmp_path / "a.nii", hu)).units == "HU"


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("right", [True, False])
def test_padding_of_ct_does_not_show_that_its_intercept_is_right(
    tmp_path: Path, write_ct: Callable[..., None], declared: bool, right: bool
) -> None:
    hu = head(5)
    write_ct(tmp_path / "ct", hu, BitsStored=16, HighBit=15, PixelRepresentation=1)
    for path, image in zip(sorted((tmp_path / "ct").iterdir()), hu, strict=True):
        data = pydicom.dcmread(path)
        numbers = np.where(FAR > 0.6, -2000, image.clip(-1010) + 1024).astype("<i2")
        data.PixelData = numbers.tobytes()
        data.RescaleIntercept = -1024 if right else 0
        if declared:
            data.add_new("PixelPaddingValue", "SS", -2000)
        data.save_as(path)
    volume = read_volume(tmp_path / "ct")
    assert volume.units == ("HU" if right else "stored")
    if not right:
        with pytest.raises(InputError, match="apart from padding there is no air, fat or noise below 0"):
            prepare_record(Record(volume), CASE, [Window()])
