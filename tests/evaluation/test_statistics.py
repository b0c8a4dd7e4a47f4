"""Tests and intervals against their definitions, worked over all pairs."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm, t

from medkit.evaluation.statistics import (
    Test as Comparison,
)
from medkit.evaluation.statistics import (
    bootstrap_interval,
    bootstrap_test,
    delong,
    delong_interval,
    holm,
    paired_t,
    placements,
    wilcoxon,
)


def data(n: int, seed: int, decimals: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two systems' scores of the same cases, with many ties, and labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.4).astype(float)
    signal = labels + rng.normal(0, 1, n)
    a, b = (np.round(signal + rng.normal(0, noise, n), decimals) for noise in (0.5, 1.0))
    return a, b, labels


def pairwise(scores: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """AUC, V10 and V01 by DeLong's definition: 1 where a positive exceeds a negative, 1/2 where both are equal."""
    x, y = scores[labels > 0][:, None], scores[labels <= 0][None]
    kernel = (x > y) + 0.5 * (x == y)
    return float(kernel.mean()), kernel.mean(1), kernel.mean(0)


@pytest.mark.parametrize("seed", range(4))
def test_placements_equal_the_definition_over_all_pairs(seed: int) -> None:
    a, _, labels = data(300, seed)
    for found, wanted in zip(placements(a, labels), pairwise(a, labels), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_delong_equals_its_definition_with_covariances(seed: int) -> None:
    """Var(AUC a - AUC b) from the 2x2 covariance matrices of the placements (DeLong et al. 1988, eq. 5)."""
    a, b, labels = data(300, seed)
    (auc_a, v10_a, v01_a), (auc_b, v10_b, v01_b) = pairwise(a, labels), pairwise(b, labels)
    covariance = np.cov(np.stack([v10_a, v10_b])) / len(v10_a) + np.cov(np.stack([v01_a, v01_b])) / len(v01_a)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    found = delong(a, b, labels)
    assert found.difference == pytest.approx(auc_a - auc_b, abs=1e-10)
    assert found.p == pytest.approx(2 * norm.sf(abs(auc_a - auc_b) / math.sqrt(variance)), abs=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_delong_interval_equals_its_definition(seed: int) -> None:
    a, _, labels = data(300, seed)
    auc, v10, v01 = pairwise(a, labels)
    half = norm.ppf(0.975) * math.sqrt(np.var(v10, ddof=1) / len(v10) + np.var(v01, ddof=1) / len(v01))
    np.testing.assert_allclose(delong_interval(a, labels), (auc, auc - half, min(1, auc + half)), atol=1e-10)


def test_delong_worked_by_hand() -> None:
    """Positives 3, 2 and negatives 1, 2: pairs 1, 1, 1, 1/2; both variances of (1, 3/4) are 1/32."""
    auc, low, _ = delong_interval(np.array([3.0, 2.0, 1.0, 2.0]), np.array([1.0, 1.0, 0.0, 0.0]))
    assert auc == 0.875
    assert low == pytest.approx(0.875 - norm.ppf(0.975) * math.sqrt(1 / 32))


def test_the_interval_of_delong_covers_the_true_auc_as_often_as_it_says() -> None:
    """Normal scores one standard deviation apart have AUC Phi(1 / sqrt 2)."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0.0, 1.0], 60)
    inside = 0
    for _ in range(400):
        _, low, high = delong_interval(labels + rng.normal(0, 1, 120), labels)
        inside += low <= norm.cdf(1 / math.sqrt(2)) <= high
    assert 0.92 <= inside / 400 <= 0.98


def test_equal_scores_show_no_difference() -> None:
    a, _, labels = data(50, 1)
    assert delong(a, a, labels).p == 1.0


def test_delong_of_one_class_is_undefined_not_an_error() -> None:
    a, b, _ = data(20, 1)
    assert math.isnan(delong(a, b, np.ones(20)).p)
    assert all(math.isnan(value) for value in delong_interval(a, np.zeros(20)))


def test_delong_orders_the_same_whatever_the_scale_of_the_scores() -> None:
    a, b, labels = data(200, 2)
    assert delong(np.exp(a), b, labels).p == pytest.approx(delong(a, b, labels).p, abs=1e-12)


@pytest.mark.parametrize(("p", "stars"), [(0.2, ""), (0.05, ""), (0.03, "*"), (0.004, "**"), (0.0004, "***")])
def test_stars_stand_for_p(p: float, stars: str) -> None:
    assert Comparison("t", 0.0, p, 10).stars == stars


def test_stars_of_an_undefined_p_are_none() -> None:
    assert Comparison("t", 0.0, float("nan"), 10).stars == ""


def test_paired_t_worked_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, standard error 1/sqrt 3, t = 2 sqrt 3 with 2 degrees of freedom, p = 1 - t/sqrt(t^2+2)."""
    found = paired_t(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0]))
    statistic = 2 * math.sqrt(3)
    assert found.difference == 2
    assert found.p == pytest.approx(1 - statistic / math.sqrt(statistic**2 + 2))


def test_paired_t_of_equal_shifts_cannot_be_tested() -> None:
    a = np.arange(5.0)
    assert math.isnan(paired_t(a + 1, a).p)
    assert paired_t(a, a).p == 1.0


def test_wilcoxon_of_six_gains_is_the_exact_sign_probability() -> None:
    """All six differences positive: one of 2^6 sign patterns on either side."""
    a = np.array([1.0, 2.5, 3.0, 4.2, 5.9, 6.1])
    assert wilcoxon(a, np.zeros(6)).p == pytest.approx(2 / 2**6)


def test_holm_worked_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_holm_does_not_count_undefined_tests() -> None:
    corrected = holm([0.02, float("nan"), 0.03])
    assert corrected[0] == 0.04
    assert math.isnan(corrected[1])
    assert corrected[2] == 0.04


def test_holm_never_exceeds_one() -> None:
    assert max(holm([0.6, 0.7, 0.9])) == 1.0


def test_bootstrap_resamples_patients_not_rows() -> None:
    """Ten patients with 40 equal rows each: rows taken for independent would give an interval sqrt(40) times narrower."""
    rng = np.random.default_rng(0)
    each = rng.normal(0, 1, 10)
    rows = {"x": np.repeat(each, 40)}
    low, high = bootstrap_interval(lambda r: float(r["x"].mean()), rows, np.repeat(np.arange(10), 40).astype(str))
    error = each.std(ddof=1) / math.sqrt(10)
    assert high - low == pytest.approx(2 * t.ppf(0.975, 9) * error, rel=0.2)


def test_bootstrap_of_one_patient_has_no_interval() -> None:
    low, high = bootstrap_interval(lambda r: float(r["x"].mean()), {"x": np.arange(9.0)}, ["p"] * 9)
    assert math.isnan(low)
    assert math.isnan(high)


def test_bootstrap_draws_with_an_undefined_value_are_left_out() -> None:
    rows = {"x": np.array([0.0] + [1.0] * 7)}
    low, high = bootstrap_interval(
        lambda r: float("nan") if r["x"].min() > 0 else r["x"].mean(), rows, list("abcdefgh")
    )
    assert 0 <= low < high <= 1


def test_bootstrap_test_finds_a_clear_gain_and_no_gain() -> None:
    rng = np.random.default_rng(0)
    patients = [f"p{i}" for i in range(40)]
    base = rng.normal(0, 1, 40)
    assert bootstrap_test(base + 1 + rng.normal(0, 0.1, 40), base, patients).p < 0.01
    assert bootstrap_test(base, base[::-1], patients).p > 0.1


# Albumin, total protein, K-G score and outcome of the 43 complete records of ovarian cancer patients in DeLong et al. 1988,
# as they stand in SAS/STAT's example of comparing ROC curves (PROC LOGISTIC).
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


def ovarian() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    albumin, protein, score, outcome = np.array(OVARIAN.split(), float).reshape(-1, 4).T
    return albumin, protein, 10 - score, outcome


def test_delong_gives_the_known_areas_and_intervals_of_the_ovarian_cancer_example() -> None:
    albumin, protein, score, outcome = ovarian()
    assert len(outcome) == 43
    for values, known in (
        (albumin, (0.7366, 0.5549, 0.9182)),
        (score, (0.7258, 0.5243, 0.9273)),
        (protein, (0.6478, 0.4518, 0.8439)),
    ):
        assert delong_interval(values, outcome) == pytest.approx(known, abs=5e-5)


def test_delong_gives_the_known_p_values_of_the_ovarian_cancer_example() -> None:
    albumin, protein, score, outcome = ovarian()
    for values, known in ((albumin, (0.0108, 0.9102)), (protein, (-0.0780, 0.4561))):
        found = delong(values, score, outcome)
        assert (found.difference, found.p) == pytest.approx(known, abs=5e-5)


def test_delong_of_a_class_with_one_case_is_undefined_not_certain() -> None:
    assert math.isnan(delong(np.array([0.9, 0.1, 0.2]), np.array([0.1, 0.2, 0.3]), np.array([1.0, 0.0, 0.0])).p)


@pytest.mark.parametrize("other", [[0.5] * 8, [0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1]])
def test_delong_without_variance_is_undefined_not_certain(other: list[float]) -> None:
    """One system separates the classes, the other says the same of all, or inverts them: nothing varies."""
    labels = np.repeat([0, 1], 4)
    found = delong(np.arange(8.0), np.array(other), labels)
    assert math.isnan(found.p)
    assert found.stars == ""
    assert "does not vary" in found.why


def test_no_p_of_few_patients_is_smaller_than_that_of_an_exact_test() -> None:
    """Nine patients can be exchanged in 2^9 ways, two of which are as extreme as all in one direction."""
    rng = np.random.default_rng(0)
    a, patients = rng.normal(5, 0.1, 9), [f"p{i}" for i in range(9)]
    assert 2.0**-8 <= bootstrap_test(a, np.zeros(9), patients).p < 0.05
    labels = np.array([0] * 4 + [1] * 5)
    scores = np.arange(9.0)
    other = np.where(np.arange(9) == 4, -0.5, -scores)
    assert delong(scores, other, labels).p >= 2.0**-8


@pytest.mark.parametrize("patients", [["p"] * 6, ["p", "q"] * 3, [*"abcdea"]])
def test_the_bootstrap_test_of_fewer_than_six_patients_is_undefined(patients: list[str]) -> None:
    rng = np.random.default_rng(0)
    found = bootstrap_test(rng.random(6) + 1, rng.random(6), patients)
    assert math.isnan(found.p)
    assert "patient" in found.why


@pytest.mark.parametrize(("positive", "defined"), [(2, False), (3, True), (17, True), (18, False)])
def test_delong_needs_three_patients_of_each_class(positive: int, defined: bool) -> None:
    rng = np.random.default_rng(0)
    labels, patients = np.repeat(np.arange(20) < positive, 3).astype(float), [f"p{i // 3}" for i in range(60)]
    assert math.isfinite(delong(labels + rng.normal(0, 1, 60), rng.normal(0, 1, 60), labels, patients).p) == defined


def test_delong_by_patients_does_not_grow_surer_when_rows_are_repeated() -> None:
    a, b, labels = data(60, 3)
    patients = [f"p{i}" for i in range(60)]
    once = delong(a, b, labels, patients)
    thrice = delong(np.repeat(a, 3), np.repeat(b, 3), np.repeat(labels, 3), np.repeat(patients, 3))
    assert once.p == pytest.approx(delong(a, b, labels).p)
    assert thrice.p == pytest.approx(once.p)
    assert (thrice.n, thrice.patients) == (180, 60)


@pytest.mark.parametrize("test", [paired_t, wilcoxon])
def test_paired_tests_do_not_grow_surer_when_rows_are_repeated(test: Callable[..., Comparison]) -> None:
    a, b, _ = data(30, 4, decimals=6)
    patients = [f"p{i}" for i in range(30)]
    once, thrice = test(a, b, patients), test(np.repeat(a, 3), np.repeat(b, 3), np.repeat(patients, 3))
    assert once.p == pytest.approx(test(a, b).p)
    assert thrice.p == pytest.approx(once.p)


def test_the_paired_t_of_dependent_rows_is_right_as_often_as_it_says() -> None:
    """Without a true difference p < 0.05 in 5 of 100 samples; rows taken for independent would say so in 40."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(15), 6).astype(str)
    wrong = np.zeros(2)
    for _ in range(300):
        difference = np.repeat(rng.normal(0, 1, 15), 6) + rng.normal(0, 0.5, 90)
        for i, those in enumerate((patients, None)):
            wrong[i] += paired_t(difference, np.zeros(90), those).p < 0.05
    assert wrong[0] / 300 <= 0.08
    assert wrong[1] / 300 >= 0.25


def test_a_class_of_few_patients_makes_no_difference_of_means_over_classes_more_certain() -> None:
    """Two of 40 patients have the second class, which has half the weight."""
    rng, wrong, names = np.random.default_rng(0), 0, [f"p{i}" for i in range(40)]
    for _ in range(400):
        difference = rng.normal(0, 1, (40, 2))
        difference[2:, 1] = np.nan
        wrong += paired_t(difference, np.zeros((40, 2)), names).p < 0.05
    assert wrong / 400 <= 0.08


def test_a_class_of_one_patient_leaves_the_mean_over_classes_untested() -> None:
    difference = np.random.default_rng(0).normal(2, 1, (40, 2))
    difference[1:, 1] = np.nan
    found = paired_t(difference, np.zeros((40, 2)), [f"p{i}" for i in range(40)])
    assert math.isnan(found.p)
    assert found.why == "a class is of one patient only"


def test_two_patients_whose_differences_are_close_are_not_tested() -> None:
    assert math.isnan(paired_t(np.array([0.8, 0.7000001]), np.array([0.7, 0.6])).p)


def test_tests_of_nothing_are_undefined() -> None:
    nothing = np.array([])
    assert math.isnan(paired_t(nothing, nothing).p)
    assert math.isnan(wilcoxon(nothing, nothing).p)
    assert math.isnan(bootstrap_test(nothing, nothing, []).p)


def test_the_bootstrap_test_of_few_patients_finds_no_more_than_chance() -> None:
    rng, names = np.random.default_rng(0), [f"p{i}" for i in range(12)]
    tests = [bootstrap_test(rng.normal(0, 1, 12), np.zeros(12), names, draws=500) for _ in range(300)]
    assert 0.01 < np.mean([test.p < 0.05 for test in tests]) < 0.08
