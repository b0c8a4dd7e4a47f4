"""Generators of a batch's items: those of NumPy, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from medkit.data.streams import generators


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (3, 1), (2**32 - 1, 1000), (12345, 2**31)])
def test_numbers_are_those_of_numpys_own_generators(seed: int, epoch: int) -> None:
    positions = [0, 1, 2, 77, 10**6, 2**32 - 1]
    for position, rng in zip(positions, generators(seed, epoch, positions), strict=True):
        expected = np.random.default_rng([seed, epoch, 1, position])
        assert rng.bit_generator.state == expected.bit_generator.state
        assert rng.integers(7) == expected.integers(7)
        assert np.array_equal(rng.normal(size=5), expected.normal(size=5))


def test_numbers_too_large_for_a_word_are_numpys_too() -> None:
    (rng,) = generators(3, 2**40, [5])
    assert rng.bit_generator.state == np.random.default_rng([3, 2**40, 1, 5]).bit_generator.state


def test_no_positions_have_no_generators() -> None:
    assert list(generators(1, 2, [])) == []
