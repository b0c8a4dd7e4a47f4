"""NIfTI that is written: the source's numbers, type and scale where nothing changed, and nothing else of its voxels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension

from medkit.data.io import read_volume, write_like
from medkit.data.nifti import read_nifti, write_nifti
from medkit.data.volume import Volume
from medkit.errors import InputError, RunError

AFFINE = np.diag([0.5, 0.5, 5, 1])


def scan(path: Path, numbers: np.ndarray, slope: float = 1, intercept: float = 0) -> Volume:
    """A file that stores ``numbers`` (x,y,z) with a scale."""
    image = nibabel.Nifti1Image(numbers, AFFINE, dtype=numbers.dtype)
    image.header.set_slope_inter(slope, intercept)
    image.header["cal_max"] = 80
    image.header.extensions.append(Nifti1Extension(6, b"made by somebody"))
    nibabel.save(image, path)
    return read_volume(path)


def written(volume: Volume, path: Path) -> tuple[np.ndarray, nibabel.Nifti1Image]:
    write_like(volume, path, kind="image", description="test")
    image = nibabel.load(path)
    return np.asarray(image.dataobj.get_unscaled()), image


@pytest.mark.parametrize(
    ("kind", "slope", "intercept"),
    [
        ("<u2", 1, -1024),
        ("<i2", 0.1, 3),
        ("<i4", 1, 0),
        ("<u1", 2, -100),
        ("<f8", 1, 0),
        ("<f4", 0.5, 10),
        ("<i8", 1, 0),
    ],
)
def test_untouched_numbers_keep_type_scale_and_bits(tmp_path: Path, kind: str, slope: float, intercept: float) -> None:
    numbers = np.random.default_rng(0).integers(0, 200, (4, 5, 6)) + (1 / 3 if kind[1] == "f" else 0)
    source = scan(tmp_path / "a.nii.gz", numbers.astype(kind), slope, intercept)
    voxels = source.voxels.astype(np.float32)
    voxels[2, 2, 2] += 7.3 * slope
    found, image = written(source.like(voxels), tmp_path / "b.nii.gz")
    assert (image.dataobj.slope, image.dataobj.inter) == (pytest.approx(slope), intercept)
    assert found.dtype == np.dtype(kind)
    change = found.astype(float) - numbers.astype(kind).astype(float)
    assert np.count_nonzero(change) == 1
    assert change.max() == pytest.approx(7.3 if kind[1] == "f" else 7, abs=1e-4)


def test_numbers_that_do_not_fit_get_a_wider_type_and_are_not_cut(tmp_path: Path) -> None:
    source = scan(tmp_path / "a.nii.gz", np.arange(120, dtype=np.uint8).reshape(4, 5, 6))
    voxels = source.voxels.astype(np.float32)
    voxels[0, 0, 0], voxels[1, 1, 1] = -3000, 70000
    found, _ = written(source.like(voxels), tmp_path / "b.nii.gz")
    assert found.dtype == np.int32
    assert (found.min(), found.max()) == (-3000, 70000)


def test_a_value_beyond_all_whole_numbers_is_refused_and_not_wrapped(tmp_path: Path) -> None:
    source = scan(tmp_path / "a.nii.gz", np.arange(120, dtype=np.uint8).reshape(4, 5, 6))
    voxels = source.voxels.astype(np.float32)
    voxels[0, 0, 0] = 1e30
    with pytest.raises(RunError, match=r"values up to 1e\+30 cannot be stored in steps of 1"):
        written(source.like(voxels), tmp_path / "b.nii.gz")
    assert not (tmp_path / "b.nii.gz").exists()


def test_what_speaks_of_the_old_voxels_goes(tmp_path: Path) -> None:
    source = scan(tmp_path / "a.nii.gz", np.zeros((4, 5, 6), np.int16))
    write_like(source.like(source.voxels > 0), tmp_path / "b.nii.gz", kind="mask", description="test")
    header = nibabel.load(tmp_path / "b.nii.gz").header
    assert (float(header["cal_max"]), len(header.extensions)) == (0, 0)
    assert bytes(header["descrip"]).startswith(b"medkit")


def test_a_dicom_series_becomes_nifti_in_scanner_coordinates_for_every_reader(
    tmp_path: Path, write_ct: Callable[..., None]
) -> None:
    write_ct(tmp_path / "scan", np.random.default_rng(0).integers(-1000, 1000, (3, 8, 8)))
    source = read_volume(tmp_path / "scan")
    _, image = written(source, tmp_path / "a.nii.gz")
    assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-5)
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)
    assert image.header.get_xyzt_units()[0] == "mm"
    again = read_volume(tmp_path / "a.nii.gz")
    assert source.same_grid(again) is None
    assert np.array_equal(again.voxels, source.voxels)


def test_nothing_writes_a_sheared_grid_as_nifti(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[1, 0] = 0.3
    with pytest.raises(InputError, match=r"a\.nii: its slices are sheared by 16\.7 degrees.*NIfTI cannot hold that"):
        write_nifti(Volume(np.zeros((4, 4, 4), np.uint8), affine), tmp_path / "a.nii")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_second_version_stays_one_and_says_nothing_of_its_header(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    voxels = np.random.default_rng(0).integers(-1000, 1000, (6, 5, 4)).astype(np.int16)
    nibabel.save(nibabel.Nifti2Image(voxels, np.diag([-1, -1, 2, 1])), tmp_path / "a.nii.gz")
    write_nifti(read_nifti(tmp_path / "a.nii.gz"), tmp_path / "b.nii.gz")
    assert isinstance(nibabel.load(tmp_path / "b.nii.gz"), nibabel.Nifti2Image)
    assert capfd.readouterr().err == ""
