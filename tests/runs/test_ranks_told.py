"""What is said of a training on several ranks before and while it runs."""

from __future__ import annotations

import pytest
from helpers import small_recipe

from medkit.errors import InputError
from medkit.recipe.training import items_a_step
from medkit.runs.checks import check_ranks


@pytest.mark.parametrize(
    ("batch", "accumulate", "ranks", "said"),
    [
        (4, 1, 1, ""),
        (4, 1, 2, "8 items per step (4 per batch, 2 ranks)"),
        (4, 3, 1, "12 items per step (4 per batch, 3 batches per step)"),
        (4, 3, 2, "24 items per step (4 per batch, 2 ranks, 3 batches per step)"),
    ],
)
def test_how_many_items_make_a_step_is_said_where_the_batch_does_not_say_it(
    batch: int, accumulate: int, ranks: int, said: str
) -> None:
    assert items_a_step(batch, accumulate, ranks) == said


def test_more_ranks_than_items_to_train_on_are_refused() -> None:
    stage = small_recipe("few").stages[0]
    check_ranks(stage, cases=4, ranks=4)
    with pytest.raises(InputError, match="4 ranks have 3 items of 'train' to train on") as found:
        check_ranks(stage, cases=3, ranks=4)
    assert found.value.hint == "start at most 3 ranks"


def test_several_slices_a_case_are_items_of_their_own() -> None:
    check_ranks(small_recipe("few", slices=2).stages[0], cases=2, ranks=4)
