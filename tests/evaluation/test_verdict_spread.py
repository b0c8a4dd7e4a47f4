"""How far trainings of two methods differ, and which loses less elsewhere: known cases, and intervals that hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from medkit.errors import InputError
from medkit.evaluation.verdict_change import change_verdicts, changed
from medkit.evaluation.verdict_spread import paired_ratio, spread_verdicts, unpaired_ratio

STUDIES = 4000


def rows(values: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """A row for each method, seed and patient of (seeds, patients)."""
    return [
        {"method": method, "seed": seed, "patient": f"p{patient}", "value": value}
        for method, table in values.items()
        for seed, line in enumerate(table)
        for patient, value in enumerate(line)
    ]


def trainings(deviation: float, seeds: int = 10, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, deviation, (seeds, 1)) + rng.normal(0, 1e-4, (seeds, 20))


def test_the_steadier_method_is_named() -> None:
    (found,) = spread_verdicts(rows({"b": trainings(1.0), "a": trainings(0.1, seed=1)}), "b")
    assert found.steadier == "a"
    assert found.low < 0.1 < found.high < 1
    (found,) = spread_verdicts(rows({"b": trainings(0.1), "a": trainings(1.0, seed=1)}), "b")
    assert found.steadier == "b"


def test_equal_spreads_are_not_told_apart() -> None:
    (found,) = spread_verdicts(rows({"b": trainings(1.0), "a": trainings(1.0, seed=1)}), "b")
    assert found.steadier is None
    assert found.low < 1 < found.high


def test_the_p_value_of_pairs_is_that_of_sums_against_differences() -> None:
    """Morgan's test is the correlation between them."""
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, 12), rng.normal(0, 2, 12)
    assert paired_ratio(a, b)[3] == pytest.approx(stats.pearsonr(a + b, a - b).pvalue)


def test_the_interval_of_pairs_ends_where_the_test_would_say_five_percent() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(0, 1, 9), rng.normal(0, 1.3, 9)
    _, low, high, _ = paired_ratio(a, b)
    for end in (low, high):
        assert paired_ratio(a, b * end)[3] == pytest.approx(0.05)


@pytest.mark.parametrize("correlation", [0.0, 0.6])
@pytest.mark.parametrize("seeds", [5, 10])
def test_intervals_hold_the_true_ratio_as_often_as_they_say(seeds: int, correlation: float) -> None:
    rng, held = np.random.default_rng(seeds), 0
    for _ in range(STUDIES):
        a, shared = rng.normal(size=seeds), rng.normal(size=seeds)
        b = correlation * a + np.sqrt(1 - correlation**2) * shared
        _, low, high, _ = paired_ratio(a, 2 * b)
        held += low <= 0.5 <= high
    assert 0.935 <= held / STUDIES <= 0.965


def test_intervals_of_separate_trainings_hold_it_too() -> None:
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(STUDIES):
        _, low, high, _ = unpaired_ratio(rng.normal(size=6), 2 * rng.normal(size=9))
        held += low <= 0.5 <= high
    assert 0.935 <= held / STUDIES <= 0.965


def test_what_does_not_vary_has_no_ratio() -> None:
    (found,) = spread_verdicts(rows({"b": trainings(1.0), "a": np.zeros((10, 20))}), "b")
    assert np.isnan(found.ratio)
    assert found.steadier is None


@pytest.mark.parametrize("ratio", [paired_ratio, unpaired_ratio])
def test_what_varies_by_rounding_alone_has_no_ratio(ratio: Any) -> None:
    assert np.isnan(ratio(np.array([0.1, 0.4, 0.2, 0.3, 0.2]), np.full(5, 0.83))).all()


def test_three_seeds_say_nothing_of_spread() -> None:
    with pytest.raises(InputError, match="'a' has 3 seeds, a verdict on their spread needs 4"):
        spread_verdicts(rows({"b": trainings(1.0), "a": trainings(1.0, seeds=3)}), "b")


def test_the_method_that_keeps_more_elsewhere_loses_less() -> None:
    rng = np.random.default_rng(0)

    def tables(loss: float, patients: int) -> dict[str, np.ndarray]:
        patient, of_b = rng.normal(0, 0.1, patients), rng.normal(0, 0.02, (5, 1))
        return {
            "b": patient + of_b + rng.normal(0, 0.02, (5, patients)),
            "a": patient + loss + rng.normal(0, 0.02, (5, patients)),
        }

    own, earlier = rows(tables(0.3, 40)), rows(tables(0.1, 30))
    (found,) = change_verdicts(own, earlier, "b")
    assert found.loses_less == "a"
    assert found.low < 0.2 < found.high
    assert (found.patients, found.patients_before) == (40, 30)
    (errors,) = change_verdicts(own, earlier, "b", higher_is_better=False)
    assert errors.loses_less == "b"


@pytest.mark.parametrize("patients", [10, 40])
def test_intervals_hold_the_true_change_as_often_as_they_say(patients: int) -> None:
    """Trainings that are good at one place are good at the other too."""
    rng, studies, seeds = np.random.default_rng(patients), STUDIES, 5
    of_seed = rng.normal(0, 0.3, (studies, seeds, 1))

    def differences(count: int) -> np.ndarray:
        return (
            of_seed
            + rng.normal(0, 0.2, (studies, seeds, 1))
            + rng.normal(0, 1, (studies, 1, count))
            + rng.normal(0, 1, (studies, seeds, count))
        )

    estimate, error = changed(differences(patients) + 0.5, differences(30))
    held = np.mean(np.abs(estimate - 0.5) <= error.within())
    assert 0.93 <= held <= 0.97


def test_methods_with_other_seeds_are_refused() -> None:
    own = rows({"b": trainings(1.0, 5), "a": trainings(1.0, 4)})
    with pytest.raises(InputError, match="'a' and 'b' need the same seeds, 3 or more"):
        change_verdicts(own, own, "b")
