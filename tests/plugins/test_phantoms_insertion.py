"""Bleeds in a real head CT: the head is found, only the lesion changes, the geometry stays."""

from __future__ import annotations

import numpy as np
import pytest
from medkit_phantoms.bleeds import SUBTYPES, draw, paint, side_of
from medkit_phantoms.insertion import InsertedBleeds, subvolume
from medkit_phantoms.segment import anatomy_of
from medkit_phantoms.source import HeadCT

from medkit.api import InputError, Source
from medkit.data.volume import Volume


@pytest.fixture(scope="module")
def scan():
    """A phantom that plays the real scan, so that this test needs no files."""
    source = HeadCT(patients=1, positive_fraction=0.0, centers=("B",), size=(160, 160), seed=4)
    return source.load(source.cases()[0]).image


@pytest.fixture(scope="module")
def found(scan):
    return anatomy_of(scan)


@pytest.fixture(scope="module")
def real(shared):
    return InsertedBleeds(shared / "realdata" / "head_ct_ge_tilt", cases=12, noise=0.0)


def test_the_brain_is_found(scan, found):
    soft = found.depth > 0
    litres = (soft * found.voxel[:, None, None]).sum() / 1e6
    assert 0.9 < litres < 1.8
    assert 25 < np.median(scan.voxels[soft]) < 42
    assert (scan.voxels[soft] > 300).mean() < 0.02


def test_ventricles_are_found_in_the_middle_and_are_fluid(scan, found):
    inside = found.ventricle < 0
    assert 3 < (inside * found.voxel[:, None, None]).sum() / 1000 < 90
    assert np.median(scan.voxels[inside]) < 18
    assert np.abs(found.x[inside]).max() < 40


@pytest.mark.parametrize("subtype", SUBTYPES)
def test_a_bleed_changes_nothing_away_from_itself(scan, found, subtype):
    rng = np.random.default_rng(1)
    bleed = draw(found, subtype, 5.0, 68.0, side_of(rng), rng)
    after = paint(scan.voxels, bleed, found, rng, oedema=4.0)
    changed = after != scan.voxels
    allowed = (bleed.blend > 0) | ((bleed.rim < 4.0) & (found.depth > 0))
    assert not (changed & ~allowed).any()
    assert (bleed.mask * found.voxel[:, None, None]).sum() / 1000 == pytest.approx(5.0, rel=0.05)
    # Blood in a sulcus one or two voxels wide shares them with its walls.
    assert abs(float(np.median(after[bleed.mask])) - 68) < (14 if subtype == "SAH" else 8)


def test_a_volume_without_skull_is_an_input_error():
    with pytest.raises(InputError, match="skull"):
        anatomy_of(Volume(np.zeros((4, 64, 64), np.float32), np.diag([5.0, 1, 1, 1])))


def test_a_missing_path_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        InsertedBleeds(tmp_path / "nothing").cases()


def test_subvolume_keeps_slices_in_their_place(scan):
    part = subvolume(scan, slice(5, 9))
    np.testing.assert_allclose(part.affine @ [0, 3, 4, 1], scan.affine @ [5, 3, 4, 1])
    np.testing.assert_allclose(part.affine @ [2, 3, 4, 1], scan.affine @ [7, 3, 4, 1])


def test_real_scan_makes_a_source_with_folds_and_both_labels(real):
    assert isinstance(real, Source)
    for fold in ("train", "val", "test"):
        assert {c.label for c in real.cases() if c.fold == fold} == {0.0, 1.0}
    assert len({c.patient for c in real.cases()}) == 12


def test_real_blocks_share_no_slice(real):
    low = real.load(next(c for c in real.cases() if c.fold == "train")).image
    high = real.load(next(c for c in real.cases() if c.fold == "test")).image
    assert low.depth + high.depth == 20  # 21 slices, one left out between
    assert low.positions[:, 2].max() < high.positions[:, 2].min()


def test_real_voxels_away_from_the_lesion_are_unchanged(real):
    case = next(c for c in real.cases() if c.label and c.fold == "train")
    normal = next(c for c in real.cases() if not c.label and c.fold == "train")
    record, plain = real.load(case), real.load(normal)
    a, b = record.image.voxels, plain.image.voxels
    if case.fields["mirrored"] != normal.fields["mirrored"]:
        b = b[:, :, ::-1]
    changed = a != b
    mask = record.mask.voxels > 0
    assert mask.any()
    # Oedema and soft edge stay within a few mm of a lesion; air and bone are never touched far from it.
    assert not changed[b < -300].any()
    assert changed.sum() < 12 * mask.sum()
    assert float((record.mask.slice_volumes() * mask.sum((1, 2))).sum()) / 1000 == pytest.approx(
        case.fields["volume_ml"], rel=0.02, abs=0.01
    )


def test_real_load_is_deterministic(real, shared):
    case = next(c for c in real.cases() if c.label and c.fold == "test")
    again = InsertedBleeds(shared / "realdata" / "head_ct_ge_tilt", cases=12, noise=0.0).load(case)
    np.testing.assert_array_equal(real.load(case).image.voxels, again.image.voxels)


def test_average_head_in_the_cormack_scale_works_too(shared):
    path = shared / "realdata" / "ct_template_scct" / "scct.nii"
    source = InsertedBleeds(path, cases=6, scale="cormack", split="whole")
    case = next(c for c in source.cases() if c.label)
    record = source.load(case)
    assert record.mask.voxels.any()
    assert 20 < np.median(record.image.voxels[record.mask.voxels > 0]) < 90
