"""Phantom radiographs: exact line integrals, growth that can be read, fractures in their place, and a sound source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from medkit_phantoms.preview import radiograph_sheet
from medkit_phantoms.radiographs import projection
from medkit_phantoms.radiographs.breaks import KINDS
from medkit_phantoms.radiographs.frame import Canvas, Frame
from medkit_phantoms.radiographs.growth import CENTRES, body_scale, maturity
from medkit_phantoms.radiographs.hand import carpus, hand, unbroken
from medkit_phantoms.radiographs.long_bones import Child
from medkit_phantoms.radiographs.primitives import Ellipsoid, Sheet, Solid, Strand, placed
from medkit_phantoms.radiographs.projection import Order, integrals, kinds_of, rotation
from medkit_phantoms.radiographs.source import Radiographs
from medkit_phantoms.radiographs.views import REGIONS, VIEWS

from medkit.api import InputError
from medkit.testing import check_component, check_source

SMALL = {"size": 64, "patients": 12}


def frame(azimuth: float = 0, elevation: float = 0, side: float = 120, pixel: float = 0.5) -> Frame:
    n = int(side / pixel)
    return Frame(rotation(azimuth, elevation, 0, 0, False), np.full(2, -0.5 * (n - 1) * pixel), pixel, (n, n))


def painted(parts: list[Any], where: Frame, layer: str = "bone") -> np.ndarray:
    canvas = Canvas(where.shape)
    for part in parts:
        part.paint(canvas, where)
    return getattr(canvas, layer)


def mass(parts: list[Any], where: Frame, layer: str = "bone") -> float:
    """Integral over the detector, mm^3 times attenuation: a volume, whatever the direction."""
    return float(painted(parts, where, layer).sum()) * where.pixel**2


# Line integrals


@pytest.mark.parametrize("view", [(0, 0), (40, 25), (90, 0), (10, 80)])
def test_an_ellipsoid_keeps_its_volume_from_every_side(view):
    body = Ellipsoid((3, -5, 8), (10, 20, 30), 0.02, turn=rotation(20, 30, 10, 0, False))
    assert mass([body], frame(*view)) == pytest.approx(0.02 * 4 / 3 * np.pi * 6000, rel=0.01)


def test_a_ray_through_the_middle_of_a_ball_meets_its_diameter():
    assert painted([Ellipsoid((0, 0, 0), (20, 20, 20), 0.02)], frame()).max() == pytest.approx(0.8, rel=1e-3)


def test_what_is_cut_out_of_an_ellipsoid_is_missing_on_its_rays():
    hole = Ellipsoid((0, 0, 5), (8, 8, 8), 0)
    whole, cut = (mass([Ellipsoid((0, 0, 0), (20, 20, 20), 1.0, without=w)], frame(30, 20)) for w in ((), (hole,)))
    assert whole - cut == pytest.approx(4 / 3 * np.pi * 512, rel=0.01)


@pytest.mark.parametrize("elevation", [0, 40, 80])
def test_a_cylinder_keeps_its_volume_from_the_side_and_end_on(elevation):
    bone = Solid((0, 0, -30), (0, 0, 30), (0, 1), (8, 8), 0.02, flat=0.6)
    assert mass([bone], frame(25, elevation)) == pytest.approx(0.02 * np.pi * 64 * 0.6 * 60, rel=0.04)


@pytest.mark.parametrize("azimuth", [0, 35, 70])
def test_a_strand_keeps_its_volume_from_every_side(azimuth):
    rib = Strand([np.array([(-30.0, 0, 0), (0, 20, 10), (30, 0, 5)])], 3.0, 0.02)
    length = np.linalg.norm((30, 20, 10)) + np.linalg.norm((30, 20, 5))
    assert mass([rib], frame(azimuth)) == pytest.approx(0.02 * np.pi * 9 * length, rel=0.02)


def test_a_strand_across_the_picture_is_the_chord_of_a_tube():
    tube = Strand([np.array([(-50.0, 0, 0), (50, 0, 0)])], 4.0, 0.02)
    assert painted([tube], frame(pixel=0.25)).max() == pytest.approx(0.16, rel=0.03)


def test_a_sheet_keeps_its_volume_when_turned():
    corners = np.array([(-20.0, 0, -20), (20, 0, -20), (20, 0, 20), (-20, 0, 20)])
    # Pixels of the outline count whole: half a pixel more all around.
    assert mass([Sheet(corners, 2.0, 0.02)], frame(50)) == pytest.approx(0.02 * 2 * 1600, rel=0.06)


def test_mirrored_parts_make_the_mirrored_picture():
    child = Child(100, 1, 0.8, 0.8)
    parts = hand(child, np.random.default_rng(0), unbroken)
    one = painted(parts, frame(30, side=300, pixel=1))
    other = painted(placed(parts, (0, 0, 0), mirror=True), frame(-30, side=300, pixel=1))
    np.testing.assert_allclose(one, other[:, ::-1], atol=2e-3)


# Growth


def child_of(age: float, sex: int) -> Child:
    return Child(age, sex, body_scale(age, sex), body_scale(age, sex))


@pytest.mark.parametrize("sex", [0, 1])
def test_carpal_bones_appear_one_after_the_other(sex):
    counts = [len(carpus(child_of(age, sex), np.random.default_rng(0))) for age in range(12, 200, 6)]
    assert counts == sorted(counts)
    assert counts[0] == 2
    assert counts[-1] == 8


def test_carpal_centres_can_be_counted_in_the_picture():
    parts = carpus(child_of(45, 1), np.random.default_rng(0))
    bright = (painted(parts, frame(pixel=0.3)) > 0.02).astype(np.uint8)
    assert cv2.connectedComponents(bright)[0] - 1 == len(parts) == 4


def along_the_radius(age: float, sex: int) -> np.ndarray:
    """Attenuation of bone down the middle of the distal radius, from shaft to joint, 0.2 mm apart."""
    child = child_of(age, sex)
    where = Frame(rotation(0, 0, 0, 0, False), np.array((7.0 * child.length, 1.0)), 0.2, (300, 1))
    return painted(hand(child, np.random.default_rng(0), unbroken), where)[:, 0][::-1]


def gap(age: float, sex: int) -> float:
    """Width in mm of the clear zone between the shaft and epiphysis of the distal radius; 0 where there is none."""
    profile = along_the_radius(age, sex)
    bone = np.flatnonzero(profile > 0.04)
    return 0.2 * float((profile[bone.min() : bone.max()] < 0.03).sum())


@pytest.mark.parametrize("sex", [0, 1])
def test_the_growth_plate_is_a_gap_in_children_and_closed_in_adults(sex):
    assert gap(96, sex) > 0.8
    assert gap(150, sex) > 0.5
    assert gap(216, sex) == 0


def test_girls_are_ahead_of_boys():
    for centre in CENTRES:
        for age in range(12, 217, 12):
            assert maturity(centre, age, 0) >= maturity(centre, age, 1), centre
    assert gap(204, 0) == 0 < gap(204, 1)
    assert len(carpus(child_of(60, 0), np.random.default_rng(0))) > len(
        carpus(child_of(60, 1), np.random.default_rng(0))
    )


@pytest.mark.parametrize("sex", [0, 1])
def test_hands_grow_longer_with_age(sex):
    def length(age: float) -> float:
        rows = painted(hand(child_of(age, sex), np.random.default_rng(0), unbroken), frame(side=600, pixel=2), "soft")
        return float((rows.max(1) > 3).sum())

    lengths = [length(age) for age in (12, 48, 96, 144, 204)]
    assert all(b > a for a, b in pairwise(lengths))
    assert 1.9 < lengths[-1] / lengths[0] < 2.6


# Views and images


@pytest.mark.parametrize("size", [48, 112])
def test_every_view_gives_a_finite_picture_that_shows_something(size):
    shapes = set()
    for i, view in enumerate(VIEWS.values()):
        picture, pixel = projection.image(Order(view, 30.0 + 3 * i, i % 2, "LR"[i % 2], size), [0, i, 0])
        assert np.isfinite(picture).all(), view.name
        assert picture.min() >= 0, view.name
        assert picture.max() <= 4095, view.name
        assert picture.std() > 100, view.name
        assert 0.79 * size <= max(picture.shape) <= size, view.name
        assert pixel > 0
        np.testing.assert_array_equal(picture, np.rint(picture))
        shapes.add(picture.shape)
    assert len(shapes) > 20
    assert any(h != w for h, w in shapes)


def test_views_have_their_official_names_and_numbers_and_cover_all_regions():
    assert len({view.index for view in VIEWS.values()}) == len(VIEWS) >= 20
    assert {view.region for view in VIEWS.values()} == set(REGIONS)
    for name, index in {"Chest_Decubitus": 0, "Hand_PA": 42, "Pevis_coccyx_sacrum": 11, "C_spine_AP": 67}.items():
        assert VIEWS[name].index == index


@pytest.mark.parametrize("side", ["L", "R"])
def test_the_heart_is_on_the_patients_left_whatever_the_marker_says(side):
    integral, where = integrals(Order(VIEWS["Chest_frontal"], 100.0, 1, side, 160), [0, 4, 0])
    length = body_scale(100, 1)
    across = where.corner[0] + where.pixel * np.arange(where.shape[1])
    down = where.corner[1] + where.pixel * np.arange(where.shape[0])
    rows = (down > -225 * length) & (down < -200 * length)

    def beside(sign: int) -> float:
        return float(integral[rows][:, (sign * across > 40 * length) & (sign * across < 75 * length)].mean())

    assert beside(1) > beside(-1) + 0.3  # the patient's left is on the right of the picture


def test_a_right_limb_is_seen_mirrored():
    left, right = (integrals(Order(VIEWS["Leg_AP"], 100.0, 1, side, 128), [0, 4, 0])[1] for side in "LR")
    assert np.linalg.det(left.rotation) * np.linalg.det(right.rotation) < 0


def test_bone_is_bright_and_air_dark():
    order = Order(VIEWS["Femur_AP"], 120.0, 1, "L", 128)
    integral, _ = integrals(order, [0, 1, 0])
    picture, _ = projection.image(order, [0, 1, 0])
    assert np.median(picture[integral > np.percentile(integral, 95)]) > np.median(picture[integral == 0]) + 300


@pytest.mark.parametrize("name", [name for name, view in VIEWS.items() if view.breaks])
def test_a_fracture_changes_the_picture_near_one_place_only(name):
    for kind in kinds_of(VIEWS[name]):
        order = Order(VIEWS[name], 110.0, 1, "L", 160)
        before, where = integrals(order, [0, 3, 0])
        after, _ = integrals(replace(order, fracture=kind), [0, 3, 0])
        change = np.abs(after - before)
        assert change.max() > 0.08, kind
        rows, columns = np.nonzero(change > 0.02)
        assert len(rows) >= 6, kind
        top, left = np.unravel_index(int(change.argmax()), change.shape)
        far = np.hypot(rows - top, columns - left).max()
        assert far < 0.4 * max(where.shape), kind
        assert len(rows) < 0.12 * change.size, kind


def test_a_torus_fracture_is_one_of_a_metaphysis():
    assert kinds_of(VIEWS["Forearm_Oblique"]) == KINDS
    assert "torus" not in kinds_of(VIEWS["Hand_PA"])


# The source


def test_conforms():
    check_component("source", "phantoms:radiographs", **SMALL)
    check_source(Radiographs(task="bone_age", **SMALL))


def test_same_pixels_in_any_order():
    one, two = Radiographs(**SMALL), Radiographs(**SMALL)
    a, b = one.cases()[0], one.cases()[5]
    first = one.load(a).image.voxels
    two.load(b)
    np.testing.assert_array_equal(first, two.load(a).image.voxels)


def test_cases_draw_no_pixel(monkeypatch):
    monkeypatch.setattr(Canvas, "__init__", lambda *_: pytest.fail("a canvas was made"))
    assert len(Radiographs(patients=500, images_per_patient=3).cases()) == 1500


@pytest.mark.parametrize("change", [{"seed": 1}, {"size": 48}, {"task": "bone_age"}])
def test_another_argument_gives_other_pixels_and_another_identity(change):
    one, two = Radiographs(**SMALL), Radiographs(**{**SMALL, **change})
    a, b = one.cases()[0], two.cases()[0]
    assert one.identity(a) != two.identity(b)
    left, right = one.load(a).image.voxels, two.load(b).image.voxels
    assert left.shape != right.shape or not np.array_equal(left, right)


def test_all_images_of_a_child_are_in_one_fold_and_of_one_age_and_sex():
    cases = Radiographs(patients=40, images_per_patient=3).cases()
    for patient in {c.patient for c in cases}:
        mine = [c for c in cases if c.patient == patient]
        assert len({(c.fold, c.fields["age_months"], c.fields["sex"]) for c in mine}) == 1
        assert len(mine) == 3


def test_labels_follow_the_task():
    label: dict[str, Callable[[Any], float]] = {
        "views": lambda c: VIEWS[c.fields["view"]].index,
        "bone_age": lambda c: c.fields["age_months"],
        "fracture": lambda c: c.fields["fracture"],
    }
    for task, expected in label.items():
        cases = Radiographs(patients=60, task=task).cases()
        assert all(c.label == expected(c) for c in cases)
    assert {c.fields["view"] for c in Radiographs(task="bone_age").cases()} == {"Hand_PA"}


def test_fractures_have_their_share_in_every_fold_and_only_in_their_task():
    cases = Radiographs(patients=300, task="fracture").cases()
    for fold in ("train", "val", "test"):
        share = np.mean([c.fields["fracture"] for c in cases if c.fold == fold])
        assert share == pytest.approx(0.57, abs=0.02)
    assert all(VIEWS[c.fields["view"]].breaks for c in cases)
    assert not any(c.fields["fracture"] for c in Radiographs(patients=60).cases())


def test_no_view_tells_of_a_fracture():
    cases = Radiographs(patients=300, task="fracture", seed=1).cases()
    for fold in ("train", "val", "test"):
        mine = [c for c in cases if c.fold == fold]
        for view in {c.fields["view"] for c in mine}:
            broken = [c.fields["fracture"] for c in mine if c.fields["view"] == view]
            assert abs(sum(broken) - 0.57 * len(broken)) < 1


def test_fractures_are_drawn_for_the_size_at_which_they_are_looked_at():
    changed = {}
    for seen_at in (None, 32):
        source = Radiographs(patients=12, size=96, task="fracture", views=("Knee_AP",), seen_at=seen_at)
        broken = [c for c in source.cases() if c.fields["fracture"]]
        whole = [replace(c, fields={**c.fields, "fracture_kind": ""}) for c in broken]
        pairs = [(source.load(a).image.voxels, source.load(b).image.voxels) for a, b in zip(broken, whole, strict=True)]
        changed[seen_at] = np.mean([(np.abs(a - b) > 400).sum() for a, b in pairs])
    assert changed[32] > 1.5 * changed[None] > 0
    assert source.identity(broken[0]) != Radiographs(patients=12, size=96, task="fracture").identity(broken[0])


def test_ages_are_those_of_the_bone_age_challenge():
    ages = np.array([c.fields["age_months"] for c in Radiographs(patients=1000, task="bone_age").cases()])
    assert ages.mean() == pytest.approx(127, abs=3)
    assert ages.std() == pytest.approx(41, abs=3)
    assert ages.min() >= 12
    assert ages.max() <= 216


def test_regions_and_views_limit_what_is_drawn():
    assert {c.fields["region"] for c in Radiographs(regions=("Head", "Pelvis")).cases()} == {"Head", "Pelvis"}
    assert {c.fields["view"] for c in Radiographs(views=("Knee_AP", "Foot_AP")).cases()} == {"Knee_AP", "Foot_AP"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"views": ("Knee",)},
        {"regions": ("Leg",)},
        {"task": "sex"},
        {"folds": (0.5, 0.5, 0.5)},
        {"task": "fracture", "views": ("Chest_frontal",)},
        {"task": "bone_age", "regions": ("Head",)},
    ],
)
def test_wrong_arguments_are_input_errors(wrong):
    with pytest.raises(InputError):
        Radiographs(**wrong)


def test_the_pixel_size_is_that_of_the_picture():
    source = Radiographs(size=96, task="bone_age", patients=3)
    image = source.load(source.cases()[0]).image
    height = image.voxels.shape[1] * image.spacing[1]
    assert 90 < height < 330  # mm: a hand with its wrist


def test_a_sheet_of_cases_is_a_png(tmp_path):
    source = Radiographs(**SMALL)
    picture = cv2.imread(str(radiograph_sheet(source, list(source.cases()[:5]), tmp_path / "sheet.png", 3, 80)))
    assert picture.shape == (2 * 104, 3 * 80, 3)


def test_a_linear_classifier_tells_the_regions_apart():
    source = Radiographs(patients=156, size=48, folds=(0.7, 0.0, 0.3), seed=3)
    data: dict[str, tuple[list[np.ndarray], list[int]]] = {"train": ([], []), "test": ([], [])}
    for case in source.cases():
        picture = source.load(case).image.voxels[0]
        low, high = np.percentile(picture, (0.5, 99.5))
        square = np.zeros((48, 48), np.float32)
        top, left = ((48 - side) // 2 for side in picture.shape)
        square[top : top + picture.shape[0], left : left + picture.shape[1]] = np.clip(
            (picture - low) / (high - low), 0, 1
        )
        pixels = cv2.resize(square, (16, 16), interpolation=cv2.INTER_AREA).ravel()
        data[case.fold][0].append(np.append(pixels - 0.3, 1))
        data[case.fold][1].append(REGIONS.index(case.fields["region"]))
    x, y = np.array(data["train"][0]), np.eye(7)[data["train"][1]]
    weights = np.linalg.solve(x.T @ x + 5 * np.eye(257), x.T @ y)  # ridge regression on one column a region
    truth = np.array(data["test"][1])
    right = ((np.array(data["test"][0]) @ weights).argmax(1) == truth).mean()
    assert right > np.bincount(truth).max() / len(truth) + 0.2
