"""Pairs of low and full dose: what is no pair is told, noise is not."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from medkit_phantoms.source import HeadCT

from medkit.data.dataset import Dataset
from medkit.data.dose import Scanner, simulate_low_dose
from medkit.data.pairs import check_pair, shift
from medkit.data.source import ManifestSource
from medkit.data.volume import Volume
from medkit.errors import InputError


@pytest.fixture(scope="module")
def head() -> Volume:
    source = HeadCT(patients=2, size=(96, 96), slices=12)
    return source.load(source.cases()[0]).image


@pytest.fixture(scope="module")
def low(head: Volume) -> Volume:
    return head.like(simulate_low_dose(head.voxels, head.spacing[2], 0.25, seed=1))


@pytest.mark.parametrize(("dose", "photons"), [(0.25, 2e5), (0.1, 2e5), (0.1, 6e4)])
def test_noise_of_a_tenth_of_the_dose_is_no_fault(head: Volume, dose: float, photons: float) -> None:
    noisy = simulate_low_dose(head.voxels, head.spacing[2], dose, scanner=Scanner(photons=photons), seed=2)
    check_pair(head.like(noisy), head, "pair")


def test_noise_in_a_narrow_window_is_no_fault(head: Volume) -> None:
    noisy = simulate_low_dose(head.voxels, head.spacing[2], 0.1, seed=3)
    check_pair(head.like(np.clip(noisy, 0, 80)), head.like(np.clip(head.voxels, 0, 80)), "pair")


def test_a_real_scan_at_a_tenth_of_the_dose_passes(shared: Path) -> None:
    from medkit.data.io import read_volume

    voxels = read_volume(shared / "realdata" / "head_ct_ge_tilt").voxels[8:13, ::2, ::2].astype(np.float32)
    scan = Volume(voxels)
    check_pair(scan.like(simulate_low_dose(voxels, 0.977, 0.1, seed=4)), scan, "pair")


@pytest.mark.parametrize(
    ("rows", "columns", "told"),
    [(2, 0, r"\+2\.0 rows and \+0\.0 columns"), (-3, 5, r"-3\.0 rows and \+5\.0 columns")],
)
def test_a_shift_in_the_plane_is_told_in_pixels(low: Volume, head: Volume, rows: int, columns: int, told: str) -> None:
    moved = head.like(np.roll(head.voxels, (rows, columns), (1, 2)))
    with pytest.raises(InputError, match=rf"full\.nii: the target is shifted against the image by {told}"):
        check_pair(low, moved, "full.nii")


def test_a_shift_by_one_pixel_passes(low: Volume, head: Volume) -> None:
    check_pair(low, head.like(np.roll(head.voxels, 1, 2)), "pair")


def test_a_shift_is_found_to_a_fraction_of_a_pixel() -> None:
    y, x = np.mgrid[:64, :48]
    blob = [np.exp(-(((y - 30 - down) ** 2) + (x - 20 + down) ** 2) / 50.0) for down in (0.0, 2.5)]
    assert shift(*blob) == pytest.approx((2.5, -2.5), abs=0.1)


@pytest.mark.parametrize(("by", "side"), [(1, "previous"), (-1, "next")])
def test_slices_that_are_off_by_one_are_told(low: Volume, head: Volume, by: int, side: str) -> None:
    with pytest.raises(InputError, match=f"slices are not paired: the target's {side} slice fits better"):
        check_pair(low.like(np.roll(low.voxels, by, 0)), head, "pair")


def test_slices_in_reverse_order_are_told(low: Volume, head: Volume) -> None:
    with pytest.raises(InputError, match="not paired: the target's slices are in reverse order"):
        check_pair(low, head.like(head.voxels[::-1].copy()), "pair")


def test_images_of_other_things_are_told(head: Volume) -> None:
    grain = np.random.default_rng(0).normal(0, 100, head.voxels.shape).clip(-400)
    with pytest.raises(InputError, match="show different things"):
        check_pair(head.like(grain), head.like(head.voxels.clip(-400)), "pair")


@pytest.mark.parametrize("offset", [-1024, -21, 21, 1024])
def test_an_offset_in_hu_is_told_and_the_intercept_named(low: Volume, head: Volume, offset: int) -> None:
    with pytest.raises(InputError, match=rf"differs by \{offset:+d} HU from the target.*RescaleIntercept"):
        check_pair(low.like(low.voxels + offset), head, "pair")


def test_a_small_offset_passes(low: Volume, head: Volume) -> None:
    check_pair(low.like(low.voxels + 15), head, "pair")


def test_scans_without_a_common_slice_that_shows_anything_are_not_judged(head: Volume) -> None:
    empty = head.like(np.full(head.voxels.shape, -1000.0, np.float32))
    check_pair(empty, empty, "pair")


def test_a_target_that_shows_nothing_is_told(low: Volume, head: Volume) -> None:
    with pytest.raises(InputError, match="the middle slices of the target are empty"):
        check_pair(low, head.like(np.zeros(head.voxels.shape, np.float32)), "pair")


@pytest.mark.parametrize("depth", [1, 2])
def test_scans_of_few_slices_are_checked_too(low: Volume, head: Volume, depth: int) -> None:
    image, target = Volume(low.voxels[4 : 4 + depth]), Volume(head.voxels[4 : 4 + depth])
    check_pair(image, target, "pair")
    with pytest.raises(InputError, match="shifted"):
        check_pair(image, target.like(np.roll(target.voxels, 4, 2)), "pair")


def manifest(folder: Path, image: Volume, target: Volume, **settings: bool) -> ManifestSource:
    for name, volume in (("low", image), ("full", target)):
        voxels = volume.voxels.astype(np.float32).transpose(2, 1, 0)[::-1, ::-1]
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 5.0, 1.0])), folder / f"{name}.nii")
    (folder / "m.csv").write_text("image,target,patient\nlow.nii,full.nii,p1\n")
    return ManifestSource(str(folder / "m.csv"), **settings)


def test_a_manifest_checks_its_pairs(low: Volume, head: Volume, tmp_path: Path) -> None:
    source = manifest(tmp_path, low, head.like(np.roll(head.voxels, 4, 2)))
    with pytest.raises(InputError, match=r"full\.nii: the target is shifted"):
        source.load(source.cases()[0])


def test_a_manifest_loads_a_good_pair(low: Volume, head: Volume, tmp_path: Path) -> None:
    source = manifest(tmp_path, low, head)
    record = source.load(source.cases()[0])
    assert record.target is not None
    assert np.array_equal(record.target.voxels, head.voxels)


def test_a_manifest_of_targets_meant_to_differ_can_say_so(low: Volume, head: Volume, tmp_path: Path) -> None:
    source = manifest(tmp_path, low, head.like(np.roll(head.voxels, 4, 2)), check_pairs=False)
    assert source.load(source.cases()[0]).target is not None


def test_what_was_prepared_unchecked_is_not_taken_once_pairs_are_checked(
    low: Volume, head: Volume, tmp_path: Path
) -> None:
    target = head.like(np.roll(head.voxels, 4, 2))
    unchecked = manifest(tmp_path, low, target, check_pairs=False)
    splits = {"all": {}}
    case = unchecked.cases()[0]
    Dataset(unchecked, splits, cache_dir=tmp_path / "cache").sample(case)
    checked = ManifestSource(unchecked.path)
    with pytest.raises(InputError, match=r"shifted|lie"):
        Dataset(checked, splits, cache_dir=tmp_path / "cache").sample(case)
