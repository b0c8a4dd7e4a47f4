"""Metrics against published numbers, equations worked by loops, and their rules for empty cases."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from medkit_smartnet.concurrence import Concurrence

from medkit.evaluation.evaluate import stack
from medkit.parts import metrics_classification as classification
from medkit.parts.metrics_image import PSNR, RMSE, SSIM, psnr, rmse, ssim
from medkit.parts.metrics_regression import MAE, R2
from medkit.parts.metrics_segmentation import DiceScore, FalsePositiveVolume
from medkit.testing import check_metric


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def measure(metric: Any, cases: list[dict[str, Any]]) -> float:
    return metric.compute(stack([row for row in map(metric.per_case, cases) if row is not None]))


@pytest.mark.parametrize(
    ("metric", "key"),
    [
        ("AUC", "auc"),
        ("F1", "f1"),
        ("Accuracy", "acc"),
        ("Sensitivity", "sen"),
        ("Specificity", "spe"),
        ("PPV", "ppv"),
        ("NPV", "npv"),
    ],
)
def test_classification_metrics_equal_the_published_ones(golden: Path, metric: str, key: str) -> None:
    arrays = load(golden / "metrics_cls_reg.npz")
    cases = [{"label": y, "probability": p} for y, p in zip(arrays["y"], arrays["p"], strict=True)]
    assert measure(getattr(classification, metric)(), cases) == pytest.approx(float(arrays[key]), rel=1e-6)


@pytest.mark.parametrize(("metric", "key"), [(MAE(), "mae"), (R2(), "r2")])
def test_regression_metrics_equal_the_published_ones(golden: Path, metric: Any, key: str) -> None:
    arrays = load(golden / "metrics_cls_reg.npz")
    cases = [{"label": y, "value": p} for y, p in zip(arrays["age"], arrays["age_pred"], strict=True)]
    assert measure(metric, cases) == pytest.approx(float(arrays[key]), rel=1e-6)


def test_auc_of_one_class_is_undefined_not_an_error() -> None:
    assert math.isnan(measure(classification.AUC(), [{"label": 1.0, "probability": 0.2}] * 3))


@pytest.mark.parametrize("n", [7, 11, 13, 27])
def test_r2_of_equal_true_values_is_undefined_whatever_their_mean_rounds_to(n: int) -> None:
    rows = {"label": np.full(n, 127.3), "value": np.linspace(100, 150, n)}
    assert math.isnan(R2().compute(rows))


def test_a_probability_of_one_half_is_no() -> None:
    assert measure(classification.Sensitivity(), [{"label": 1.0, "probability": 0.5}]) == 0.0


@pytest.mark.parametrize("metric", ["F1", "Sensitivity", "PPV"])
def test_ratios_without_a_denominator_are_undefined_not_zero(metric: str) -> None:
    """A centre without disease is no failure: nothing was there to be found."""
    cases = [{"label": 0.0, "probability": 0.1}] * 3
    assert math.isnan(measure(getattr(classification, metric)(), cases))


def test_fpv_equals_equation_1_worked_by_loops(golden: Path) -> None:
    arrays = load(golden / "thesis_eq1_fpv_eq2_concurrence.npz")
    cases = []
    for volume, spacing, normal in zip(
        arrays["p_seg_V_D_H_W"], arrays["spacing_mm_xyz"], arrays["normal_volumes"], strict=True
    ):
        mask = np.zeros(volume.shape, np.uint8)
        mask[0, 0, 0] = not normal
        each = np.full(len(volume), float(np.prod(spacing)))
        cases.append({"mask": mask, "mask_probability": volume, "slice_volumes": each})
    assert measure(FalsePositiveVolume(), cases) == pytest.approx(float(arrays["fpv_mean_normals"]), rel=1e-6)
    assert measure(FalsePositiveVolume(aggregate="sum"), cases) == pytest.approx(
        float(arrays["fpv_sum_normals"]), rel=1e-6
    )


@pytest.mark.parametrize(("on", "key"), [("positives", "concurrence_pos"), ("negatives", "concurrence_neg")])
def test_concurrence_equals_equation_2_worked_by_loops(golden: Path, on: Any, key: str) -> None:
    arrays = load(golden / "thesis_eq1_fpv_eq2_concurrence.npz")
    cases = [
        {
            "label": float(arrays["slice_gt"][v, z]),
            "probability": arrays["p_cls_V_D"][v, z],
            "mask_probability": arrays["p_seg_V_D_H_W"][v, z],
        }
        for v, z in np.ndindex(arrays["slice_gt"].shape)
    ]
    assert measure(Concurrence(on), cases) == pytest.approx(float(arrays[key]), rel=1e-6)


def test_dice_leaves_out_empty_truths_and_counts_missed_lesions_as_zero() -> None:
    yes, no = np.ones((1, 4, 4), np.uint8), np.zeros((1, 4, 4), np.uint8)
    metric = DiceScore()
    assert metric.per_case({"mask": no, "mask_probability": yes * 0.9}) is None
    assert metric.per_case({"mask": yes, "mask_probability": no * 0.1}) == {"value": 0.0}
    assert (
        measure(metric, [{"mask": yes, "mask_probability": yes * 0.9}, {"mask": yes, "mask_probability": no * 0.1}])
        == 0.5
    )


@pytest.mark.parametrize("size", ["64x64", "65x47"])
def test_image_metrics_equal_the_published_ones(golden: Path, size: str) -> None:
    arrays = load(golden / "metrics_pixel.npz")
    low, full, said = (arrays[f"{size}/{name}"][0, 0] for name in ("ldct", "ndct", "pred"))
    for function, key, tolerance in ((rmse, "rmse", 1e-5), (psnr, "psnr", 1e-5), (ssim, "ssim", 1e-5)):
        found = [function(image, full) for image in (low, full, said)]
        np.testing.assert_allclose(found, arrays[f"{size}/{key}[input,gt,pred]"], rtol=tolerance, atol=1e-5)


def test_blank_slices_are_left_out_and_counted_and_the_plain_mean_stays() -> None:
    rng = np.random.default_rng(0)
    target = rng.random((3, 16, 16)).astype(np.float32)
    image = target + 0.1
    image[2] = target[2]
    row = PSNR().per_case({"patient": "a", "output": image, "target": target, "image": image})
    assert row is not None
    assert row["blank"] == 1
    assert row["value"] == pytest.approx(20.0, abs=1e-3)
    assert row["plain"] == pytest.approx((20 + 20 + 100) / 3, abs=1e-3)
    assert row["input"] == row["value"]


def test_rmse_in_hu_is_the_window_fraction_times_its_width() -> None:
    case = {"output": np.full((1, 8, 8), 0.6), "target": np.full((1, 8, 8), 0.5), "image": np.full((1, 8, 8), 0.7)}
    case["patient"] = "a"
    assert measure(RMSE(window_width=80.0), [case]) == pytest.approx(8.0)


@pytest.mark.parametrize("metric", [classification.AUC, classification.F1, MAE, R2])
def test_scalar_metrics_keep_every_promise_of_a_metric(metric: type) -> None:
    cases = [{"label": float(i % 2), "probability": i / 9, "value": float(i)} for i in range(10)]
    check_metric(metric, cases)


@pytest.mark.parametrize("metric", [PSNR, SSIM, RMSE])
def test_image_metrics_keep_every_promise_of_a_metric(metric: type) -> None:
    rng = np.random.default_rng(1)
    case = {k: rng.random((2, 16, 16)).astype(np.float32) for k in ("output", "target", "image")}
    check_metric(metric, [{"patient": "a"} | case])


def thirteen_right() -> dict[str, np.ndarray]:
    return {"label": np.ones(13), "probability": np.full(13, 0.9)}


def test_a_share_of_all_cases_has_an_interval_that_is_no_point() -> None:
    low, high = classification.Sensitivity().interval(thirteen_right(), [f"p{i}" for i in range(13)])
    assert low == pytest.approx(13 / (13 + 1.959964**2), abs=1e-5)  # Wilson, worked by hand for all right
    assert high == pytest.approx(1)


def test_cases_of_one_patient_are_no_interval() -> None:
    assert np.isnan(classification.Sensitivity().interval(thirteen_right(), ["p"] * 13)).all()


def test_a_share_that_is_right_in_all_slices_is_as_sure_as_its_patients_are_many() -> None:
    rows = {"label": np.ones(130), "probability": np.full(130, 0.9)}
    patients = [f"p{i // 10}" for i in range(130)]
    low, high = classification.Sensitivity().interval(rows, patients)
    assert (low, high) == pytest.approx((13 / (13 + 1.959964**2), 1.0), abs=1e-5)


def test_the_interval_of_a_share_grows_when_slices_of_a_patient_agree() -> None:
    right = np.repeat([1.0] * 14 + [0.0] * 6, 10)  # 20 patients, all of whose slices are right or wrong together
    rows = {"label": np.ones(200), "probability": 0.2 + 0.6 * right}
    metric = classification.Accuracy()
    dependent = metric.interval(rows, [f"p{i // 10}" for i in range(200)])
    independent = metric.interval(rows, [f"p{i}" for i in range(200)])
    alone = metric.interval({k: v[::10] for k, v in rows.items()}, [f"p{i}" for i in range(20)])
    assert np.ptp(dependent) > 3 * np.ptp(independent)
    assert np.ptp(dependent) == pytest.approx(np.ptp(alone), rel=0.15)
