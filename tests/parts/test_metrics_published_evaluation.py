"""A whole published evaluation, slice decisions and volume maps, reproduced by the metrics."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from medkit.evaluation.evaluate import stack
from medkit.parts import metrics_classification as classification
from medkit.parts.metrics_image import psnr, rmse, ssim
from medkit.parts.metrics_segmentation import DiceScore, FalsePositiveVolume


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def measure(metric: Any, cases: list[dict[str, Any]]) -> float:
    return metric.compute(stack([row for row in map(metric.per_case, cases) if row is not None]))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def volumes(arrays: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Cases with (D,H,W) maps and voxels of 1 mm^3."""
    masks = np.moveaxis(arrays["gt"][:, 0], -1, 1)
    maps = np.moveaxis(sigmoid(arrays["seg_logits"])[:, 0], -1, 1)
    return [
        {"mask": m, "mask_probability": p, "slice_volumes": np.ones(len(m))} for m, p in zip(masks, maps, strict=True)
    ]


def test_dice_of_positive_volumes(golden: Path) -> None:
    arrays = load(golden / "smart_fpv_official_2022.npz")
    assert measure(DiceScore(), volumes(arrays)) == pytest.approx(float(arrays["official/dice"]), abs=1e-6)


def test_sum_of_fpv_with_unit_voxels_is_the_published_count(golden: Path) -> None:
    arrays = load(golden / "smart_fpv_official_2022.npz")
    assert measure(FalsePositiveVolume(aggregate="sum"), volumes(arrays)) == float(arrays["official/fpv"])


@pytest.mark.parametrize(
    ("metric", "key"),
    [("AUC", "auc"), ("F1", "f1"), ("Accuracy", "acc"), ("Sensitivity", "sen"), ("Specificity", "spe")],
)
def test_decisions_over_all_slices(golden: Path, metric: str, key: str) -> None:
    arrays = load(golden / "smart_fpv_official_2022.npz")
    labels = arrays["gt"].max((1, 2, 3)).ravel()
    cases = [
        {"label": float(y), "probability": float(p)}
        for y, p in zip(labels, sigmoid(arrays["cls_logits_V_D"]).ravel(), strict=True)
    ]
    # The published ones add 1e-7 to denominators.
    assert measure(getattr(classification, metric)(), cases) == pytest.approx(
        float(arrays[f"official/{key}"]), abs=2e-6
    )


def test_dice_per_sample_leaves_out_the_one_with_an_empty_truth(golden: Path) -> None:
    arrays = load(golden / "metrics_seg.npz")
    rows = [
        DiceScore().per_case({"mask": m, "mask_probability": p})
        for m, p in zip(arrays["gt"], arrays["pred"], strict=True)
    ]
    expected = arrays["c1b1573_dice_per_sample"][:, 0]
    assert [row is None for row in rows] == [bool(np.isnan(e)) for e in expected]
    np.testing.assert_allclose([row["value"] for row in rows if row], expected[~np.isnan(expected)], rtol=1e-6)


def test_fpv_of_uneven_slices_uses_the_volume_of_each() -> None:
    wrong = np.zeros((3, 4, 4))
    wrong[0, 0, :2] = 1
    wrong[2, 0, 0] = 1
    case = {"mask": np.zeros((3, 4, 4)), "mask_probability": wrong, "slice_volumes": np.array([1.0, 10.0, 4.0])}
    assert measure(FalsePositiveVolume(), [case]) == pytest.approx(2 * 1.0 + 1 * 4.0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30))
def test_auc_equals_scikit_learn_with_any_ties(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = np.array([y for y, _ in pairs], float), np.array([s for _, s in pairs], float)
    found = classification.AUC().compute({"label": labels, "probability": scores})
    if len(set(labels)) < 2:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def ssim_by_loops(a: np.ndarray, b: np.ndarray) -> float:
    g = np.exp(-((np.arange(11) - 5.0) ** 2) / 4.5)
    window = np.outer(g, g) / g.sum() ** 2
    x, y = np.pad(a, 5), np.pad(b, 5)
    total = 0.0
    for i, j in np.ndindex(a.shape):
        u, v = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
        mu, mv = (window * u).sum(), (window * v).sum()
        su, sv, suv = (window * u * u).sum() - mu**2, (window * v * v).sum() - mv**2, (window * u * v).sum() - mu * mv
        total += (2 * mu * mv + 1e-4) * (2 * suv + 9e-4) / ((mu**2 + mv**2 + 1e-4) * (su + sv + 9e-4))
    return total / a.size


def test_ssim_equals_its_definition_by_loops() -> None:
    a, b = np.random.default_rng(0).random((2, 14, 13))
    assert ssim(a, b) == pytest.approx(ssim_by_loops(a, b), abs=1e-12)


@pytest.mark.parametrize("noise", [1e-4, 1e-3, 1e-2])
def test_ssim_of_bright_smooth_images_is_its_definition(noise: float) -> None:
    a = np.full((48, 48), 0.9, np.float32)
    b = (a + noise * np.random.default_rng(0).normal(size=a.shape)).astype(np.float32)
    assert ssim(a, b) == pytest.approx(ssim_by_loops(a.astype(float), b.astype(float)), abs=1e-10)


def test_equal_images_are_100_db_no_error_and_alike() -> None:
    image = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    assert psnr(image, image) == pytest.approx(100.0)
    assert rmse(image, image) == 0.0
    assert ssim(image, image) == pytest.approx(1.0, abs=1e-6)
