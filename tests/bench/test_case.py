"""How errors between results are measured, and what a target promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medkit.bench import Case, Target, Variant
from medkit.bench.case import difference


def make(device: torch.device):
    return lambda: 0.0


def test_the_largest_absolute_error_over_all_arrays_counts() -> None:
    found = {"a": torch.tensor([1.0, 2.0]), "b": [np.array([3.0]), 4.0]}
    expected = {"b": [np.array([3.5]), 4.0], "a": torch.tensor([1.0, 2.25])}
    assert difference(found, expected) == 0.5


def test_a_relative_error_is_a_norm_over_a_norm() -> None:
    assert difference(torch.tensor([3.0, 4.5]), torch.tensor([3.0, 4.0]), relative=True) == pytest.approx(0.1)


@pytest.mark.parametrize("wrong", [[math.nan, 2.0], [math.inf, 2.0], [1.0]])
def test_numbers_that_are_not_finite_and_other_shapes_are_infinitely_wrong(wrong: list[float]) -> None:
    assert difference(torch.tensor(wrong), torch.tensor([1.0, 2.0])) == math.inf


def test_complex_and_half_precision_results_are_compared() -> None:
    assert difference(torch.tensor([1 + 1j]), torch.tensor([1 + 0j])) == 1
    assert difference(torch.tensor([1.0], dtype=torch.bfloat16), torch.tensor([1.0])) == 0


@pytest.mark.parametrize(
    ("quantity", "found", "met"),
    [("speed", 1.5, True), ("speed", 1.3, False), ("memory", 0.5, True), ("memory", 1.5, False), ("time", 1.4, True)],
)
def test_speed_is_promised_at_least_and_everything_else_at_most(quantity, found, met) -> None:
    assert Target("a", quantity, 1.4).met(found) is met


def test_a_target_for_a_variant_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="not variants"):
        Case("x", (Variant("a", make),), targets=(Target("b", "speed", 1.0),))


def test_two_variants_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="different names"):
        Case("x", (Variant("a", make), Variant("a", make)))
