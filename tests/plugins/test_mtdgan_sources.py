"""Pairs of doses: same grid, noise where it belongs, blocks that do not touch."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import nibabel
import numpy as np
import pytest
from medkit_mtdgan.sources import LowDose, LowDoseScan
from medkit_phantoms.source import HeadCT

from medkit.data.dataset import Dataset
from medkit.errors import InputError
from medkit.recipe import load_recipe
from medkit.testing import check_source


@pytest.fixture(scope="module")
def source() -> LowDose:
    return LowDose(HeadCT(patients=3, size=(64, 64), slices=4, centers=("A",)), photons=2e4)


def test_low_dose_keeps_every_promise_of_a_source(source: LowDose) -> None:
    check_source(source)


def test_the_target_is_the_scan_in_whole_hu_and_the_image_has_more_noise(source: LowDose) -> None:
    case = source.cases()[0]
    record = source.load(case)
    assert record.target is not None
    np.testing.assert_array_equal(record.target.voxels, np.rint(source.source.load(case).image.voxels))
    assert (record.image.voxels - record.target.voxels).std() > 1


def test_cases_have_noise_of_their_own(source: LowDose) -> None:
    noise = [r.image.voxels - r.target.voxels for r in map(source.load, source.cases()[:2]) if r.target is not None]
    shape = [min(a, b) for a, b in zip(noise[0].shape, noise[1].shape, strict=True)]
    a, b = (n[: shape[0], : shape[1], : shape[2]].ravel() for n in noise)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.2


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    volume = HeadCT(patients=1, size=(64, 64), slices=20, centers=("A",))
    voxels = volume.load(volume.cases()[0]).image.voxels.transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([3.0, 3.0, 6.0, 1.0])), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_blocks_of_one_scan_do_not_touch_and_lie_where_they_were(scan: Path) -> None:
    source = LowDoseScan(str(scan), repeats=2)
    check_source(source)
    blocks = [source.block(fold) for fold in ("train", "val", "test")]
    assert all(a.stop < b.start + 1 and b.start - a.stop >= 1 for a, b in pairwise(blocks))
    test = source.load(next(case for case in source.cases() if case.fold == "test"))
    assert np.isclose(test.image.affine[2, 3], source.scan().affine[2, 3] + 6 * blocks[2].start)


def test_each_slice_of_the_test_block_is_a_case(scan: Path) -> None:
    source = LowDoseScan(str(scan))
    part = source.block("test")
    cases = [case for case in source.cases() if case.fold == "test"]
    assert [case.id for case in cases] == [f"slice{z}" for z in range(part.start, part.stop)]
    target = source.load(cases[1]).target
    assert target is not None
    np.testing.assert_array_equal(target.voxels, np.rint(source.scan().voxels[part.start + 1 : part.start + 2]))


def test_repeats_share_voxels_and_differ_in_noise(scan: Path) -> None:
    source = LowDoseScan(str(scan), repeats=2)
    first, second = (source.load(case) for case in source.cases()[:2])
    assert first.target is not None
    assert second.target is not None
    assert np.array_equal(first.target.voxels, second.target.voxels)
    assert not np.array_equal(first.image.voxels, second.image.voxels)


def test_splits_of_one_scan_pass_as_a_data_set(scan: Path) -> None:
    source = LowDoseScan(str(scan))
    dataset = Dataset(source, {"train": {"fold": "train"}, "test": {"fold": "test"}})
    assert len(dataset.cases("train")) == 4


def test_pixels_that_are_not_square_are_refused_as_the_command_line_does(tmp_path: Path, scan: Path) -> None:
    image = nibabel.load(scan)
    nibabel.save(nibabel.Nifti1Image(image.dataobj, np.diag([3.0, 2.0, 6.0, 1.0])), tmp_path / "oblong.nii.gz")
    source = LowDoseScan(str(tmp_path / "oblong.nii.gz"))
    with pytest.raises(InputError, match=r"oblong\.nii\.gz: pixels of 2\.000 x 3\.000 mm are not square"):
        source.load(source.cases()[0])


def test_a_block_of_a_scan_has_the_photons_that_match_the_whole_scan(scan: Path) -> None:
    source = LowDoseScan(str(scan), match_hu=12.0, region="hu=0:80", modulation=0.3)
    noise = []
    for case in source.cases():
        record = source.load(case)
        assert record.target is not None
        there = (record.target.voxels >= 0) & (record.target.voxels <= 80)
        noise.append((record.image.voxels - record.target.voxels)[there])
    assert np.concatenate(noise).std() == pytest.approx(12, rel=0.15)
    assert source.identity(source.cases()[0]) != LowDoseScan(str(scan)).identity(source.cases()[0])


def test_every_scan_of_another_source_gets_the_noise_that_is_wanted() -> None:
    heads = HeadCT(patients=3, size=(64, 64), slices=4, centers=("A",))
    source = LowDose(heads, match_hu=12.0, each_slice=True)
    check_source(source)
    for case in source.cases():
        record = source.load(case)
        assert record.target is not None
        there = (record.target.voxels >= 10) & (record.target.voxels <= 70)
        assert (record.image.voxels - record.target.voxels)[there].std() == pytest.approx(12, rel=0.15)


def test_a_region_or_a_noise_that_is_none_is_refused_by_check_before_any_data_is_read() -> None:
    for key, value in (("region", "brain"), ("match_hu", 0.1), ("modulation", 2)):
        block = {"use": "mtdgan:low_dose_scan", "path": "nowhere", key: value}
        with pytest.raises(InputError, match=key):
            load_recipe("tiny_ldct", [f"data.ldct.source={json.dumps(block)}"])


def test_photons_beside_a_noise_to_match_are_refused() -> None:
    with pytest.raises(InputError, match="photons are given too"):
        LowDose(HeadCT(patients=1), photons=1e6, match_hu=10.0)


def test_shares_that_do_not_add_up_are_refused(scan: Path) -> None:
    with pytest.raises(InputError, match="do not add up to 1"):
        LowDoseScan(str(scan), shares=(0.5, 0.1, 0.1))
