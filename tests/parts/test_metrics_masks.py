"""Metrics of masks: surfaces and lesions by values worked by hand, classes against each of them alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from medkit.evaluation.bootstrap import bootstrap
from medkit.evaluation.measure import stack
from medkit.evaluation.values import value_of
from medkit.parts.metrics_lesions import LesionFalsePositives, LesionSensitivity
from medkit.parts.metrics_masks import MaskMetric
from medkit.parts.metrics_segmentation import DiceScore
from medkit.parts.metrics_surface import ASSD, HD95, NSD

SPACING = (5.0, 0.5, 0.4)  # slice to slice, down a column, along a row


def case(truth: np.ndarray, said: np.ndarray, spacing: tuple[float, float, float] = SPACING) -> dict[str, Any]:
    affine = np.eye(4)[[2, 1, 0, 3]] * [*spacing, 1]
    positions = np.arange(len(truth))[:, None] * affine[:3, 0]
    return {"mask": truth.astype(np.uint8), "mask_probability": said.astype(np.float32)} | {
        "affine": affine,
        "positions": positions,
    }


def boxes(*bounds: tuple[int, int, int, int, int, int], shape: tuple[int, int, int] = (6, 20, 30)) -> np.ndarray:
    found = np.zeros(shape, bool)
    for z0, z1, y0, y1, x0, x1 in bounds:
        found[z0:z1, y0:y1, x0:x1] = True
    return found


def value(metric: Any, truth: np.ndarray, said: np.ndarray, **about: Any) -> float:
    return metric.per_case(case(truth, said, **about))["value"]


def test_distances_between_two_voxels_are_in_mm():
    one, other = boxes((1, 2, 3, 4, 5, 6)), boxes((2, 3, 7, 8, 8, 9))
    expected = math.sqrt(5.0**2 + (4 * 0.5) ** 2 + (3 * 0.4) ** 2)
    for metric in (HD95(), ASSD()):
        assert value(metric, one, other) == pytest.approx(expected)


def test_the_average_counts_every_voxel_of_both_surfaces():
    # Rows of 3 and of 5 voxels that begin together: 3 distances of 0 one way, 0 0 0 0.4 0.8 the other.
    row, longer = boxes((0, 1, 0, 1, 0, 3), shape=(1, 4, 9)), boxes((0, 1, 0, 1, 0, 5), shape=(1, 4, 9))
    assert value(ASSD(), row, longer) == pytest.approx(1.2 / 8)
    assert value(HD95(), row, longer) == pytest.approx(np.percentile([0, 0, 0, 0.4, 0.8], 95))
    assert value(NSD(0.4), row, longer) == pytest.approx(7 / 8)


def test_voxels_inside_are_on_no_surface():
    outer = boxes((0, 1, 2, 7, 2, 7), shape=(1, 9, 9))
    ring = outer & ~boxes((0, 1, 4, 5, 4, 5), shape=(1, 9, 9))
    # The ring adds the four neighbours of its hole; of those, the middles of the box's sides are 1 voxel away.
    assert value(ASSD(), outer, outer) == 0
    assert value(ASSD(), outer, ring, spacing=(1, 1, 1)) == pytest.approx(4 * 1 / (16 + 20))


def test_slices_that_vary_in_distance_count_with_their_own():
    one, other = boxes((3, 4, 3, 4, 5, 6)), boxes((4, 5, 3, 4, 5, 6))
    made = case(one, other)
    made["positions"] = made["positions"] + np.array([0, 0, 7.0]) * (np.arange(6) > 3)[:, None]
    assert HD95().per_case(made) == {"value": pytest.approx(12.0)}


def test_a_missed_mask_is_as_far_as_the_volume_is_wide():
    truth, said = boxes((1, 2, 3, 4, 5, 6)), boxes()
    diagonal = math.sqrt((5 * 5.0) ** 2 + (19 * 0.5) ** 2 + (29 * 0.4) ** 2)
    assert value(HD95(), truth, said) == value(ASSD(), truth, said) == pytest.approx(diagonal)
    assert value(NSD(), truth, said) == 0


def test_an_empty_truth_is_left_out():
    assert HD95().per_case(case(boxes(), boxes((1, 2, 3, 4, 5, 6)))) is None


def test_pixels_of_unknown_size_have_no_distances():
    made = case(boxes((1, 2, 3, 4, 5, 6)), boxes((1, 2, 3, 4, 5, 6)))
    made |= {name: made[name] + np.nan for name in ("affine", "positions")}
    assert math.isnan(HD95().per_case(made)["value"])


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_those_of_simpleitk(seed: int):
    sitk = pytest.importorskip("SimpleITK")
    rng = np.random.default_rng(seed)
    from scipy import ndimage

    truth, said = (ndimage.gaussian_filter(rng.normal(size=(8, 24, 24)), 1.5) > 0.05 for _ in range(2))
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (truth, said)]
    for image in images:
        image.SetSpacing(SPACING[::-1])
    each = []
    for a, b in (images, images[::-1]):
        away = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(_contour(sitk, b), squaredDistance=False,
                                                                   useImageSpacing=True))  # fmt: skip
        each.append(np.maximum(away[sitk.GetArrayFromImage(_contour(sitk, a)) > 0], 0))
    assert value(HD95(), truth, said) == pytest.approx(max(np.percentile(one, 95) for one in each), abs=1e-4)
    assert value(ASSD(), truth, said) == pytest.approx(np.concatenate(each).mean(), abs=1e-4)


def _contour(sitk: Any, image: Any) -> Any:
    """The voxels of an image that one of six neighbours is not in, outside the volume being none."""
    eroded = sitk.BinaryErode(image, (1, 1, 1), sitk.sitkCross, 0.0, 1.0, False)
    return sitk.And(image, sitk.Not(eroded))


def test_a_lesion_is_found_by_one_voxel():
    truth = boxes((1, 2, 2, 5, 2, 5), (4, 5, 10, 12, 10, 12))
    said = boxes((1, 2, 4, 6, 4, 6), (0, 1, 15, 16, 20, 22))
    assert value(LesionSensitivity(), truth, said) == 0.5
    assert value(LesionFalsePositives(), truth, said) == 1


def test_voxels_that_touch_by_a_corner_are_one_lesion():
    truth = boxes((0, 1, 0, 1, 0, 1), (1, 2, 1, 2, 1, 2))
    assert value(LesionSensitivity(), truth, boxes((0, 1, 0, 1, 0, 1))) == 1


def test_false_lesions_of_normal_cases_count():
    assert value(LesionFalsePositives(), boxes(), boxes((0, 1, 0, 1, 0, 1), (3, 4, 5, 6, 7, 8))) == 2


def classed(truths: list[np.ndarray], saids: list[np.ndarray]) -> dict[str, Any]:
    made = case(np.any(truths, 0), np.any(saids, 0))
    return made | {"class_masks": np.array(truths), "class_masks_said": np.array(saids)}


A, B, C = boxes((1, 2, 2, 5, 2, 5)), boxes((3, 4, 2, 5, 2, 5)), boxes((3, 4, 2, 5, 2, 8))
CASES = [([A, boxes()], [A, B]), ([A, B], [boxes(), C]), ([boxes(), boxes()], [A, boxes()])]


def test_each_class_is_measured_as_a_mask_of_its_own():
    for metric in (DiceScore(), HD95(), NSD(1), LesionFalsePositives()):
        _, *each = metric.of_classes(["a", "b"])
        assert [one.name for one in each] == [f"{metric.name}_a", f"{metric.name}_b"]
        for truths, saids in CASES:
            for one, truth, said in zip(each, truths, saids, strict=True):
                assert one.per_case(classed(truths, saids)) == metric.per_case(case(truth, said))


def test_the_mean_over_classes_is_that_of_their_means():
    mean = DiceScore().of_classes(["a", "b"])[0]
    cases = [classed(*masks) for masks in CASES]
    rows = stack([row for one in cases if (row := mean.per_case(one)) is not None])
    assert mean.compute(rows) == pytest.approx(((1 + 0) / 2 + 2 * 9 / 27) / 2)
    assert mean.weighted(rows)(np.array([1.0, 0.0])) == pytest.approx(1.0)  # of a case in which only one occurs
    assert mean.score(mean.per_case(cases[1])) == pytest.approx((0 + 2 * 9 / 27) / 2)


def test_the_interval_of_many_cases_holds_their_mean():
    mean = LesionFalsePositives().of_classes(["a", "b"])[0]
    rng = np.random.default_rng(0)
    rows = {f"class{i}": rng.poisson(0.3, 600).astype(float) for i in range(2)}
    found = bootstrap(mean, rows, [str(i // 20) for i in range(600)])
    assert found.low < mean.compute(rows) < found.high


@pytest.mark.parametrize(
    ("patients", "why"), [(2, "no interval: dice_b has 2 patients, fewer than 3"), (3, "bootstrap")]
)
def test_a_mean_over_classes_has_an_interval_if_each_has_three_patients(patients: int, why: str) -> None:
    mean = DiceScore().of_classes(["a", "b"])[0]
    rows = {f"class{i}": np.random.default_rng(i).random(20) for i in range(2)}
    rows["class1"][patients:] = np.nan
    found = value_of(mean, rows, [f"p{i}" for i in range(20)], 0, True)
    assert why in found.method
    assert np.isnan(found.low) == (patients == 2)


def test_the_mean_measures_no_class_twice():
    class Counting(MaskMetric):
        name, unit, higher_is_better, empty, calls = "counting", "", True, "none", 0

        def of_masks(self, truth: np.ndarray, said: np.ndarray, case: Any) -> float:
            Counting.calls += 1
            return 1.0

    metrics = Counting().of_classes(["a", "b"])
    for truths, saids in CASES:
        made = classed(truths, saids)
        for metric in metrics:
            metric.per_case(made)
    assert Counting.calls == 2 * len(CASES)
