"""What methods are compared by is one metric with one set of arguments, or a reason says why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medkit.errors import InputError
from medkit.evaluation.metric_arguments import is_of, measured_apart
from medkit.recipe import Recipe
from medkit.recipe.blocks import Block
from medkit.studies.study import Compare, Study

KIND = "metric"


def check_measures(study: Study, recipes: Mapping[str, Recipe]) -> None:
    """Refuse numbers that methods would get from a metric with different arguments under the same name.

    Raises
    ------
    InputError
        with both arguments, unless ``compare.unequal`` has a reason.
    """
    if study.compare is None or KIND in study.compare.unequal:
        return
    for one in (study.compare, *study.compare.also):
        blocks = {method: _blocks(recipe, one) for method, recipe in recipes.items()}
        if _apart(blocks, one.metric) is None:
            continue
        named = {method: [(block.build().name, block) for block in mine] for method, mine in blocks.items()}
        for name in dict.fromkeys(name for mine in named.values() for name, _ in mine):
            same = {method: [block for own, block in mine if own == name] for method, mine in named.items()}
            if (what := _apart(same, name)) is not None:
                hint = f"give all the same arguments, or say why not: compare: {{unequal: {{{KIND}: REASON}}}}"
                raise InputError(f"{what} in stage '{one.stage}'", str(one.mark), hint)


def _blocks(recipe: Recipe, one: Compare) -> list[Block]:
    return [block for block in recipe.stage(one.stage).metrics if is_of(block.name, one.metric)]


def _apart(blocks: Mapping[str, Sequence[Block]], metric: str) -> str | None:
    return measured_apart({method: [block.plain() for block in mine] for method, mine in blocks.items()}, metric)
