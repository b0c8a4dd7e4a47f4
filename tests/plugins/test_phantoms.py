"""The head CT phantoms: same voxels from the same seed, plausible HU, exact masks, centres that differ."""

from __future__ import annotations

import numpy as np
import pytest
from medkit_phantoms import scanner
from medkit_phantoms.anatomy import Head
from medkit_phantoms.bleeds import SUBTYPES
from medkit_phantoms.centers import CENTERS
from medkit_phantoms.source import HeadCT

from medkit.api import InputError, Source

SMALL = {"size": (96, 96), "slices": 16}


@pytest.fixture(scope="module")
def many() -> HeadCT:
    return HeadCT(patients=60, centers=("A", "B", "C", "D"), seed=3, **SMALL)


@pytest.fixture(scope="module")
def head() -> tuple[Head, tuple[np.ndarray, ...]]:
    return Head(np.random.default_rng(0), 70), np.meshgrid(
        np.arange(-90, 90, 2.0), np.arange(-110, 110, 2.0), np.arange(-40, 80, 4.0), indexing="ij"
    )


def first(source: HeadCT, **wanted):
    for case in source.cases():
        if all(getattr(case, k, case.fields.get(k)) == v for k, v in wanted.items()):
            return case
    raise AssertionError(f"no case with {wanted}")


def test_is_a_source(many):
    assert isinstance(many, Source)


def test_same_voxels_in_any_order():
    one, two = HeadCT(patients=8, **SMALL), HeadCT(patients=8, **SMALL)
    a, b = one.cases()[0], one.cases()[3]
    record = one.load(a)
    two.load(b)
    again = two.load(a)
    np.testing.assert_array_equal(record.image.voxels, again.image.voxels)
    np.testing.assert_array_equal(record.mask.voxels, again.mask.voxels)


def test_another_seed_gives_other_voxels_and_another_identity():
    one, two = HeadCT(patients=8, seed=0, **SMALL), HeadCT(patients=8, seed=1, **SMALL)
    assert one.identity(one.cases()[0]) != two.identity(two.cases()[0])
    assert not np.array_equal(one.load(one.cases()[0]).image.voxels, two.load(two.cases()[0]).image.voxels)


@pytest.mark.parametrize("change", [{"size": (64, 64)}, {"slices": 12}, {"hard_negatives": False}, {"patients": 9}])
def test_identity_follows_every_argument(change):
    base = {"patients": 8, **SMALL}
    one, two = HeadCT(**base), HeadCT(**{**base, **change})
    assert one.identity(one.cases()[0]) != two.identity(two.cases()[0])


def test_every_fold_and_centre_has_both_labels(many):
    groups = {(c.center, c.fold) for c in many.cases()}
    assert groups == {("A", "train"), ("A", "val"), ("A", "test"), ("B", "test"), ("C", "test"), ("D", "test")}
    for group in groups:
        assert {c.label for c in many.cases() if (c.center, c.fold) == group} == {0.0, 1.0}, group


def test_no_patient_is_in_two_folds(many):
    ids = [c.patient for c in many.cases()]
    assert len(ids) == len(set(ids)) == 60


@pytest.mark.parametrize("subtype", SUBTYPES)
def test_bleed_has_its_volume_inside_the_skull_at_its_attenuation(many, subtype):
    case = first(many, subtype=subtype)
    record = many.load(case)
    mask = record.mask.voxels > 0
    assert mask.sum() * record.mask.voxel_volume / 1000 == pytest.approx(
        case.fields["volume_ml"], abs=record.mask.voxel_volume / 1000
    )
    hu = float(np.median(record.image.voxels[mask]))
    assert abs(hu - case.fields["hu"]) < 12  # partial volume in thin bleeds on 2 mm pixels
    assert (record.image.voxels[mask] > 400).mean() < 0.02  # blood, not bone


def test_mask_is_empty_without_a_bleed_only(many):
    for case in many.cases()[::6]:
        assert bool(many.load(case).mask.voxels.any()) == bool(case.label)


def test_volumes_reach_from_under_1_to_over_100_ml_and_some_bleeds_are_dim():
    cases = [c for c in HeadCT(patients=150, centers=("A", "B", "C", "D")).cases() if c.label]
    volumes, hu = ([c.fields[k] for c in cases] for k in ("volume_ml", "hu"))
    assert min(volumes) < 1 < 100 < max(volumes)
    assert 30 <= min(hu) < 45
    assert 70 < max(hu) <= 90
    assert {c.fields["subtype"] for c in cases} == set(SUBTYPES)


def test_intraventricular_blood_stays_in_the_middle_of_the_head(many):
    record = many.load(first(many, subtype="IVH"))
    mask = record.mask.voxels > 0
    # Nothing within 20 mm of the skin in front or behind.
    body = record.image.voxels > -300
    rows = np.where(body.any((0, 2)))[0]
    margin = int(20 / record.image.spacing[1])
    assert not mask[:, : rows.min() + margin].any()
    assert not mask[:, rows.max() - margin :].any()


def test_epidural_blood_touches_the_skull_and_is_compact(many):
    record = many.load(first(many, subtype="EDH"))
    mask, bone = record.mask.voxels > 0, record.image.voxels > 250
    worst = int(mask.sum((1, 2)).argmax())
    near = np.argwhere(bone[worst])
    there = np.argwhere(mask[worst])
    gaps = np.sqrt(((there[:, None] - near[None]) ** 2).sum(-1)).min(1)
    assert gaps.min() <= 2.5


def test_subdural_blood_is_longer_than_thick(many):
    record = many.load(
        max((c for c in many.cases() if c.fields["subtype"] == "SDH"), key=lambda c: c.fields["volume_ml"])
    )
    mask = record.mask.voxels > 0
    points = np.argwhere(mask[int(mask.sum((1, 2)).argmax())]).astype(float)
    long, short = np.sqrt(np.linalg.eigvalsh(np.cov(points.T))[::-1])
    assert long > 2 * short


def test_tissues_have_their_hounsfield_numbers(head):
    person, (x, y, z) = head
    tissue = person.tissue(x, y, z)
    ventricle = tissue.hu[tissue.ventricle < -1.5]
    white = tissue.hu[(tissue.depth > 32) & (tissue.ventricle > 8) & (z > 30) & (np.abs(x) > 8)]
    thalamus = tissue.hu[
        (np.abs(np.abs(x) - 11) < 3) & (np.abs(y - 10) < 4) & (np.abs(z - 5) < 4) & (tissue.ventricle > 2)
    ]
    vault = tissue.hu[(tissue.depth < -1.5) & (tissue.depth > -4) & (z > 20)]
    assert 0 <= np.median(ventricle) <= 15
    assert 25 <= np.median(white) <= 32
    assert 37 <= np.median(thalamus) <= 41
    assert 400 < np.median(vault) < 1500
    assert np.median(tissue.hu[tissue.depth < -40]) == -1000


def test_atrophy_grows_with_age(head):
    _, (x, y, z) = head

    def fluid(age: float) -> float:
        tissue = Head(np.random.default_rng(5), age).tissue(x, y, z)
        return float((tissue.ventricle < 0).sum() + tissue.csf.sum())

    assert fluid(85) > 1.4 * fluid(25)


def test_normals_have_dense_spots_in_the_brain():
    # Calcifications: far above brain and blood, well inside the skull.
    found = 0
    x, y, z = np.meshgrid(np.arange(-35, 36, 1.5), np.arange(-20, 50, 1.5), np.arange(-5, 20, 2.5), indexing="ij")
    for seed in range(6):
        tissue = Head(np.random.default_rng(seed), 80).tissue(x, y, z)
        found += bool(((tissue.hu > 75) & (tissue.depth > 20)).any())
    assert found >= 3


def test_beam_hardening_and_motion_change_the_brain_of_a_normal():
    hard, soft = (HeadCT(patients=8, hard_negatives=h, **SMALL) for h in (True, False))
    case = first(hard, label=0.0)
    a, b = hard.load(case).image.voxels, soft.load(case).image.voxels
    inside = np.abs(b - 32) < 12
    low = np.abs((a - b)[:4][inside[:4]])
    assert np.percentile(low, 99) > 3


def noise_of(name: str) -> tuple[float, float]:
    """std in HU and correlation of neighbouring pixels of a centre's noise on 0.9 mm pixels."""
    center, size = CENTERS[name], (128, 128)
    amplitude = scanner.kernel(center, size, 0.9)
    field = scanner.noise_std(center, 0.9, center.thickness) * scanner.correlated(
        amplitude, size, np.random.default_rng(0)
    )
    return float(field.std()), float(np.corrcoef(field[:, 1:].ravel(), field[:, :-1].ravel())[0, 1])


def test_centres_differ_in_noise_and_its_grain():
    std, grain = zip(*(noise_of(name) for name in "ABCD"), strict=True)
    assert all(1 < s < 8 for s in std)
    assert max(std) > 1.7 * min(std)
    assert max(grain) - min(grain) > 0.15
    assert grain[0] == max(grain)  # A has the softest kernel


def test_centres_differ_in_spacing_thickness_and_tilt():
    source = HeadCT(patients=12, centers=("A", "B", "C", "D"), size=(64, 64))
    volumes = {name: source.load(first(source, center=name)).image for name in "ABCD"}
    assert [round(volumes[n].spacing[0], 2) for n in "ABCD"] == [5.0, 4.0, 3.0, 7.0]
    assert len({volumes[n].depth for n in "ABCD"}) == 4
    assert len({round(volumes[n].spacing[2], 3) for n in "ABCD"}) == 4
    down, across = volumes["B"].affine[:3, 1], volumes["B"].affine[:3, 0]
    angle = np.degrees(np.arcsin(abs(down @ across) / np.linalg.norm(down) / np.linalg.norm(across)))
    assert angle == pytest.approx(12, abs=0.01)


def test_slices_limits_depth_and_thickens_them():
    source = HeadCT(patients=2, size=(64, 64), slices=12)
    image = source.load(source.cases()[0]).image
    assert image.depth == 12
    assert image.spacing[0] > 10


@pytest.mark.parametrize("wrong", [{"centers": ("A", "X")}, {"centers": ()}, {"folds": (0.5, 0.5, 0.5)}])
def test_wrong_arguments_are_input_errors(wrong):
    with pytest.raises(InputError):
        HeadCT(**wrong)
