"""Grids that NIfTI cannot hold: refused, or resampled to an even one that keeps volumes and places."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medkit.data.io import check_output, read_volume, write_like
from medkit.data.resample import even, irregular
from medkit.data.volume import Volume
from medkit.errors import InputError

HEAD = np.array([*np.arange(0, 40, 2.5), *np.arange(40, 100, 7.5)])  # a head protocol: 2.5 mm below, 7.5 mm above


def stack(heights: np.ndarray, size: int = 80, pixel: float = 0.8, tilt: float = 0.0) -> Volume:
    """Zeros on slices at ``heights`` along their normal; with ``tilt`` each lies further along its own columns."""
    along_normal = np.zeros((len(heights), 3))
    along_normal[:, 2] = heights
    along_normal[:, 1] = np.tan(np.radians(tilt)) * heights
    affine = np.zeros((4, 4))
    affine[:3, 0] = (along_normal[-1] - along_normal[0]) / (len(heights) - 1)
    affine[1, 1] = affine[0, 2] = pixel
    affine[3, 3] = 1
    uneven = np.ptp(np.diff(heights)) > 0.01
    return Volume(np.zeros((len(heights), size, size), np.uint8), affine, along_normal if uneven else None)


def centres(volume: Volume) -> np.ndarray:
    """(D,H,W,3) mm: where every voxel lies."""
    index = np.stack(np.meshgrid(*map(np.arange, volume.voxels.shape), indexing="ij"), -1)
    origins = volume.positions
    if origins is None:
        origins = volume.affine[:3, 3] + np.arange(volume.depth)[:, None] * volume.affine[:3, 0]
    return origins[:, None, None] + index[..., 1:] @ volume.affine[:3, 1:3].T


def ball(volume: Volume, centre: tuple[float, float, float], radius: float) -> Volume:
    return volume.like((np.linalg.norm(centres(volume) - centre, axis=-1) < radius).astype(np.uint8))


@pytest.mark.parametrize(
    ("grid", "centre"),
    [
        (stack(HEAD), (32.0, 32.0, 40.0)),
        (stack(np.arange(0, 80, 4.0), tilt=20), (32.0, 46.0, 40.0)),
        (stack(HEAD, tilt=20), (32.0, 46.0, 40.0)),
    ],
    ids=["uneven", "tilted", "both"],
)
def test_a_ball_keeps_its_volume_and_its_place_on_the_even_grid(grid: Volume, centre: tuple) -> None:
    mask = ball(grid, centre, 18)
    found = even(mask, nearest=True)
    assert irregular(found) is None
    true = float((mask.voxels.sum((1, 2)) * mask.slice_volumes()).sum())
    assert found.voxels.sum() * found.voxel_volume == pytest.approx(true, rel=0.03)
    middle = centres(found)[found.voxels > 0].mean(0)
    assert np.abs(middle - centre).max() < min(found.spacing) / 2
    # Where the even grid says ball, the ball is, to half a voxel of the source.
    far = np.linalg.norm(centres(found)[found.voxels > 0] - centre, axis=-1).max()
    assert far < 18 + 7.5 / 2


def test_an_image_that_is_linear_in_space_stays_so_and_air_lies_around_it() -> None:
    slope = (2.0, -1.0, 3.0)
    grid = stack(HEAD, size=24, tilt=15)
    found = even(grid.like((centres(grid) @ slope - 700).astype(np.float32)), nearest=False)
    places = centres(found)
    for height, (_, top, _) in zip(HEAD, grid.positions, strict=True):
        (z,) = np.flatnonzero(np.isclose(places[:, 0, 0, 2], height))
        covered = (places[z, :, 0, 1] >= top) & (places[z, :, 0, 1] <= top + 23 * 0.8)
        assert np.abs(found.voxels[z, covered] - (places[z, covered] @ slope - 700)).max() < 0.01
        beyond = (places[z, :, 0, 1] < top - 0.8) | (places[z, :, 0, 1] > top + 24 * 0.8)
        assert (found.voxels[z, beyond] == -1024).all()


def test_an_even_upright_grid_comes_back_as_it_is() -> None:
    grid = stack(np.arange(0, 20, 2.5))
    assert irregular(grid) is None
    assert even(grid, nearest=True) is grid


def uneven_series(folder: Path, write_ct: Callable[..., None]) -> Volume:
    import pydicom

    write_ct(folder, np.full((8, 8, 8), 30))
    for i, (file, height) in enumerate(zip(sorted(folder.glob("*.dcm")), HEAD[12:20], strict=True)):
        data = pydicom.dcmread(file)
        data.ImagePositionPatient = [0, 0, height]
        data.SliceThickness = 2.5 if i < 5 else 7.5
        data.save_as(file)
    return read_volume(folder)


def test_nifti_of_uneven_slices_is_refused_with_the_ways_out(tmp_path: Path, write_ct: Callable[..., None]) -> None:
    scan = uneven_series(tmp_path / "scan", write_ct)
    expected = r"out\.nii\.gz: its slices lie 2.5 to 7.5 mm apart, .*name a folder, to get DICOM .*--resample"
    with pytest.raises(InputError, match=expected):
        check_output(scan, tmp_path / "out.nii.gz")
    with pytest.raises(InputError, match=expected):
        write_like(scan, tmp_path / "out.nii.gz", kind="image", description="test")
    assert not (tmp_path / "out.nii.gz").exists()
    check_output(scan, tmp_path / "out")
    check_output(scan, tmp_path / "out.nii.gz", resample=True)
    with pytest.raises(InputError, match="not resampled"):
        check_output(scan, tmp_path / "out", resample=True)


def test_a_tilted_head_opens_in_itk_once_it_is_resampled(shared: Path, tmp_path: Path) -> None:
    simpleitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    head = read_volume(shared / "realdata" / "head_ct_ge_tilt")
    with pytest.raises(InputError, match=r"mm apart|sheared"):
        check_output(head, tmp_path / "head.nii.gz")
    found = even(head, nearest=False)
    write_like(found, tmp_path / "head.nii.gz", kind="image", description="test")
    image = simpleitk.ReadImage(str(tmp_path / "head.nii.gz"))
    assert image.GetSize() == found.voxels.shape[::-1]
    for index in ((0, 0, 0), (3, 100, 200)):
        place = (found.affine @ [*index, 1])[:3]
        assert image.TransformIndexToPhysicalPoint(index[::-1]) == pytest.approx(place, abs=1e-3)
    assert np.array_equal(simpleitk.GetArrayFromImage(image), found.voxels)
    written = nibabel.load(tmp_path / "head.nii.gz")
    assert np.allclose(written.get_qform(), written.get_sform(), atol=1e-3)
