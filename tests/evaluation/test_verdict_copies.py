"""Seeds with the same values are noted in verdicts of every kind, whichever of the methods has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medkit.evaluation.verdict import verdict
from medkit.evaluation.verdict_change import change_verdicts
from medkit.evaluation.verdict_spread import spread_verdicts

SEEDS, PATIENTS = 5, 12
ONE = "All 5 seeds of 'a' have the same values: they may be one training."
TWO = "Only 2 of 5 seeds of 'a' differ in their values: others may be one training."


def rows(copied: dict[str, int], apart: int = 0) -> list[dict[str, Any]]:
    """Trainings of two methods, of which ``copied`` have the values of the first; seeds of b start at ``apart``."""
    rng = np.random.default_rng(0)
    found = []
    for method in "ab":
        values = rng.normal(0.5, 0.1, (SEEDS, PATIENTS)) + (method == "a") * 0.05
        values[: copied.get(method, 1)] = values[0]
        for seed, line in enumerate(values):
            name = seed + apart * (method == "b")
            found += [{"method": method, "seed": name, "patient": f"p{i}", "value": v} for i, v in enumerate(line)]
    return found


@pytest.mark.parametrize("apart", [0, 10], ids=["paired", "unpaired"])
@pytest.mark.parametrize(("copied", "told"), [(1, None), (4, TWO), (5, ONE)])
def test_copies_of_one_method_are_noted(copied: int, told: str | None, apart: int) -> None:
    notes = verdict(rows({"a": copied}, apart), "a", "b").notes
    assert [note for note in notes if "one training" in note] == ([] if told is None else [told])


def test_copies_of_both_are_noted_once_if_they_are_of_the_same_seeds() -> None:
    noted = "Only 3 of 5 seeds differ in their values: others may be one training."
    assert noted in verdict(rows({"a": 3, "b": 3}), "a", "b").notes
    each = [f"Only 3 of 5 seeds of '{method}' differ in their values: others may be one training." for method in "ab"]
    assert set(each) <= set(verdict(rows({"a": 3, "b": 3}, 10), "a", "b").notes)


def test_copies_are_noted_where_spread_or_a_loss_is_judged() -> None:
    (spread,) = spread_verdicts(rows({"a": 4}), "b")
    (change,) = change_verdicts(rows({"a": 4}), rows({}), "b")
    assert spread.notes == change.notes == (TWO,)
