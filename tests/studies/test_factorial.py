"""Fractional-factorial plans: what they confound, and what they do not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medkit.studies.factorial import plan_of


@pytest.mark.parametrize(("count", "runs"), [(1, 2), (2, 4), (3, 8), (4, 8), (5, 16), (8, 16), (9, 32), (16, 32)])
def test_plans_are_as_small_as_resolution_four_allows(count: int, runs: int) -> None:
    plan = plan_of([f"f{i}" for i in range(count)])
    assert len(plan.signs) == runs
    assert len(set(plan.runs)) == runs
    assert plan.resolution() >= 4 or count < 4


@pytest.mark.parametrize("count", [4, 6, 8, 12])
def test_no_main_effect_is_that_of_another_factor_or_of_two(count: int) -> None:
    signs = plan_of([f"f{i}" for i in range(count)]).signs.astype(int)
    assert (signs.sum(axis=0) == 0).all()
    for i, j in itertools.combinations(range(count), 2):
        assert signs[:, i] @ signs[:, j] == 0
        pair = signs[:, i] * signs[:, j]
        assert all(pair @ signs[:, k] == 0 for k in range(count) if k not in (i, j))


def test_the_run_without_any_factor_and_the_one_with_all_are_in_it() -> None:
    plan = plan_of("abcdefgh")
    assert plan.runs[0] == ()
    assert tuple("abcdefgh") in plan.runs


def test_interactions_that_cannot_be_told_apart_are_named() -> None:
    plan = plan_of("abcd")
    assert set(map(frozenset, plan.aliases())) == {
        frozenset({("a", "b"), ("c", "d")}),
        frozenset({("a", "c"), ("b", "d")}),
        frozenset({("a", "d"), ("b", "c")}),
    }
    for group in plan_of("abcdefgh").aliases():
        assert len(group) == 4
    assert plan_of("abc").aliases() == []


def test_effects_are_recovered_from_runs_with_interactions() -> None:
    plan = plan_of("abcdefgh")
    x = (plan.signs > 0).astype(float)
    y = 2 * x[:, 0] - x[:, 5] + 3 * (x[:, 1] * x[:, 2])
    effects = {f: float(y[x[:, i] == 1].mean() - y[x[:, i] == 0].mean()) for i, f in enumerate(plan.factors)}
    assert np.isclose(effects["a"], 2)
    assert np.isclose(effects["f"], -1)
    assert np.isclose(effects["b"], 1.5)  # half of its interaction, which is an effect where the other is in
    assert all(np.isclose(effects[name], 0) for name in "degh")


def test_no_factor_and_too_many_are_refused() -> None:
    for count in (0, 17):
        with pytest.raises(ValueError, match="factors"):
            plan_of(["f"] * count)
