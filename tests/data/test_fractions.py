"""A fraction of a split: whole patients, nested, with the shares of the classes of the whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medkit.data.fractions import Chosen, choose
from medkit.errors import InputError

PEOPLE = [f"p{i // 2}" for i in range(200)]  # a hundred patients of two cases
LABELS = np.array([float(i // 2 % 5 == 0 and i % 2) for i in range(200)])  # one case of every fifth patient


def chosen(fraction: float, seed: int = 7, labels: np.ndarray = LABELS) -> Chosen:
    return choose(PEOPLE, labels, fraction, seed)


def patients(found: Chosen) -> set[str]:
    return {name for name, inside in zip(PEOPLE, found.inside, strict=True) if inside}


def test_smaller_fractions_lie_inside_larger_ones() -> None:
    sizes = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.99, 1.0)
    found = [patients(chosen(fraction)) for fraction in sizes]
    assert all(smaller < larger for smaller, larger in itertools.pairwise(found))
    assert [len(one) for one in found] == [1, 2, 5, 10, 20, 50, 99, 100]


def test_a_patient_is_in_it_with_all_cases_or_with_none() -> None:
    inside = chosen(0.3).inside.reshape(100, 2)
    assert (inside[:, 0] == inside[:, 1]).all()


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_classes_have_their_shares_in_it(fraction: float) -> None:
    positive = {name for name, label in zip(PEOPLE, LABELS, strict=True) if label}
    found = chosen(fraction)
    assert len(patients(found) & positive) == pytest.approx(20 * fraction, abs=1)
    assert found.strata == "stratified by label (a patient's largest)"


def test_another_seed_draws_others_and_the_order_of_cases_draws_the_same() -> None:
    assert patients(chosen(0.2, seed=8)) != patients(chosen(0.2))
    back = choose(PEOPLE[::-1], LABELS[::-1], 0.2, 7)
    assert (back.inside[::-1] == chosen(0.2).inside).all()


def test_a_fraction_that_leaves_a_class_empty_is_refused_with_the_smallest_that_works() -> None:
    found = chosen(0.01)
    with pytest.raises(InputError, match=r"1 of 100 patients have no case with label = 1") as caught:
        found.check(0.01, "here")
    smallest = float(str(caught.value.hint).rsplit(maxsplit=1)[1])
    assert smallest == found.smallest
    chosen(smallest).check(smallest, "here")
    with pytest.raises(InputError):
        chosen(smallest - 0.01).check(smallest - 0.01, "here")
    found.check(0.01, "here", classes=False)


def test_a_fraction_without_a_patient_is_refused_with_the_smallest_that_has_one() -> None:
    found = chosen(0.004)
    with pytest.raises(
        InputError, match=r"0\.004 of 100 patients is less than one.*the smallest fraction with one is 0\.005"
    ):
        found.check(0.004, "here", classes=False)
    assert chosen(0.005).patients == 1


def test_measurements_are_stratified_by_ranges_and_have_no_class_to_be_left_empty() -> None:
    ages = np.linspace(0, 228, 200)
    found = chosen(0.05, labels=ages)
    assert found.strata == "stratified by 5 ranges of the label (a patient's largest)"
    found.check(0.05, "here")
    assert len(set(np.floor(ages[found.inside] / 45.6 - 1e-9).astype(int))) == 5


def test_patients_without_a_label_are_a_stratum_and_no_class() -> None:
    labels = np.where(np.arange(200) < 100, np.nan, LABELS)
    found = chosen(0.5, labels=labels)
    assert (found.inside & np.isnan(labels)).sum() == 50
    found.check(0.5, "here")
    assert chosen(0.1, labels=np.full(200, np.nan)).strata == "not stratified, because no case has a label"
