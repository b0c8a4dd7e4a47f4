"""The Fréchet distance against closed forms and another algorithm, and FID as a metric."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.linalg import sqrtm

from medkit.evaluation.evaluate import stack
from medkit.parts.features import RANDOM
from medkit.parts.metrics_fid import FID, frechet_distance
from medkit.testing import check_metric


def textbook(a: np.ndarray, b: np.ndarray) -> float:
    """The distance as it is written, by SciPy's matrix square root."""
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    shift = a.mean(0) - b.mean(0)
    return float(shift @ shift + np.trace(first) + np.trace(second) - 2 * np.trace(sqrtm(first @ second).real))


def by_eigenvalues(a: np.ndarray, b: np.ndarray) -> float:
    """tr (A^(1/2) B A^(1/2))^(1/2) by symmetric eigenvalues, negative ones of rounding cut."""
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    trace = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    shift = a.mean(0) - b.mean(0)
    return float(shift @ shift + np.trace(first) + np.trace(second) - 2 * trace)


def with_moments(mean: np.ndarray, deviations: np.ndarray, n: int = 200, seed: int = 0) -> np.ndarray:
    """Features whose sample mean is ``mean`` and whose sample covariance is diagonal with these deviations, exactly."""
    x = np.random.default_rng(seed).normal(size=(n, len(mean)))
    q, _ = np.linalg.qr(x - x.mean(0))
    return mean + q * np.sqrt(n - 1) * deviations


def cases(patients: int = 4, depth: int = 3, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(patients):
        target = rng.random((depth, 24, 24), dtype=np.float32)
        image = (target + rng.normal(0, 0.2, target.shape)).clip(0, 1).astype(np.float32)
        made.append({"patient": f"p{i}", "target": target, "image": image, "output": (image + target) / 2})
    return made


def rows_of(metric: FID, given: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    return stack([row for row in map(metric.per_case, given) if row is not None])


@pytest.mark.parametrize(("n", "d"), [(300, 16), (40, 200), (2, 8)])
def test_the_distance_of_features_to_themselves_is_zero(n: int, d: int) -> None:
    # Eigenvalues that fall steeply, as those of real features do.
    x = np.random.default_rng(0).normal(size=(n, d)) * np.arange(1, d + 1) ** -1.3 * 12
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)


def test_float32_features_with_2048_channels_are_at_distance_zero_from_themselves() -> None:
    x = (
        np.random.default_rng(0).normal(size=(300, 2048)).astype(np.float32)
        * np.arange(1, 2049, dtype=np.float32) ** -0.5
    )
    assert frechet_distance(x, x[::-1]) == pytest.approx(0, abs=1e-6)


def test_normal_distributions_with_diagonal_covariances_are_at_their_closed_distance() -> None:
    means = np.array([[0.0, 1.0, -2.0], [0.5, 1.0, 1.0]])
    deviations = np.array([[1.0, 2.0, 0.1], [3.0, 2.0, 0.0]])
    a, b = (with_moments(m, s, seed=i) for i, (m, s) in enumerate(zip(means, deviations, strict=True)))
    expected = np.sum((means[0] - means[1]) ** 2) + np.sum((deviations[0] - deviations[1]) ** 2)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_one_feature_is_the_distance_of_two_normals() -> None:
    a, b = with_moments(np.array([1.0]), np.array([2.0])), with_moments(np.array([4.0]), np.array([0.5]), n=77)
    assert frechet_distance(a, b) == pytest.approx(3.0**2 + 1.5**2)


def test_it_equals_scipy_s_matrix_square_root_where_that_is_well_conditioned() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(400, 12)) @ rng.normal(size=(12, 12))
    b = rng.normal(size=(300, 12)) @ rng.normal(size=(12, 12)) + 0.3
    assert frechet_distance(a, b) == pytest.approx(textbook(a, b), rel=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(400, 300, 24), (20, 30, 64), (20, 300, 64), (300, 20, 64)])
def test_it_equals_symmetric_eigenvalues_whatever_the_rank(n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(n, d)), 1.5 * rng.normal(size=(m, d)) + 0.2
    # Square roots of eigenvalues that are rounding alone leave about 1e-8 each on the other side.
    assert frechet_distance(a, b) == pytest.approx(by_eigenvalues(a, b), rel=1e-7)


def test_it_is_symmetric_and_ignores_the_order_of_slices() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(30, 50)), rng.normal(size=(20, 50))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b[::-1], a[::-1]), rel=1e-10)


def test_one_slice_has_no_covariance_and_no_distance() -> None:
    assert np.isnan(frechet_distance(np.ones((1, 4)), np.ones((9, 4))))


def test_equal_outputs_and_targets_have_no_distance_and_the_input_keeps_its_own() -> None:
    given = [case | {"output": case["target"]} for case in cases()]
    metric = FID(RANDOM)
    rows = rows_of(metric, given)
    assert metric.compute(rows) == pytest.approx(0, abs=1e-6)
    assert metric.extras(rows)["input"] > 1e-4


def test_the_input_s_own_value_is_that_of_the_input_as_output() -> None:
    metric = FID(RANDOM)
    expected = metric.compute(rows_of(metric, [case | {"output": case["image"]} for case in cases()]))
    assert metric.extras(rows_of(metric, cases()))["input"] == pytest.approx(expected)


def test_blank_slices_are_left_out_and_counted_and_the_distance_with_them_stays() -> None:
    metric = FID(RANDOM)
    given = cases()
    blank = cases(seed=5)[0]
    blank["image"] = blank["target"]
    rows = rows_of(metric, [*given, blank])
    extras = metric.extras(rows)
    assert (extras["counted_slices"], extras["blank_slices"]) == (12, 3)
    assert metric.compute(rows) == pytest.approx(metric.compute(rows_of(metric, given)))
    assert extras["plain"] != pytest.approx(metric.compute(rows))


def test_the_interval_is_the_jackknife_over_patients() -> None:
    metric = FID(RANDOM)
    given = cases()
    patients = ["x", "x", "y", "z"]
    rows = rows_of(metric, given)
    kept = [[c for c, p in zip(given, patients, strict=True) if p != name] for name in "xyz"]
    without = np.array([metric.compute(rows_of(metric, k)) for k in kept])
    error = np.sqrt(2 / 3 * np.sum((without - without.mean()) ** 2))
    low, high = metric.interval(rows, patients)
    value = metric.compute(rows)
    # The 97.5 % quantile of Student's t with two degrees of freedom.
    assert high == pytest.approx(value + 4.302653 * error, rel=1e-6)
    assert low == pytest.approx(max(0.0, value - 4.302653 * error), rel=1e-6)


def test_one_patient_has_no_interval() -> None:
    metric = FID(RANDOM)
    assert np.isnan(metric.interval(rows_of(metric, cases(1)), ["p"])).all()


def test_numbers_of_the_random_network_carry_it_in_their_name() -> None:
    assert FID(RANDOM).name == "fid_random"


def test_fid_keeps_every_promise_of_a_metric() -> None:
    check_metric(FID, cases(), weights=RANDOM)
