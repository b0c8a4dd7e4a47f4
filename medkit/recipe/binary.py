"""What reads the cases' own label as 0 or 1, as far as a recipe shows."""

from __future__ import annotations

from medkit.recipe import walk
from medkit.recipe.blocks import Block
from medkit.recipe.labels import asks_for_labels
from medkit.recipe.model import Recipe
from medkit.registry.static import static_constant


def binary_reader(recipe: Recipe, data: str) -> str | None:
    """What reads the label of a data block's cases as 0 or 1, in words; None if nothing is known to.

    A component says that it does by ``binary_label = True``. One that may learn declared labels instead does so where
    the data block declares some.
    """
    declared = recipe.data[data].labels is not None
    for stage in recipe.stages:
        if stage.data != data:
            continue
        if stage.balance:
            return f"'balance' of stage '{stage.name}'"
        metrics = [metric for metric in stage.metrics if isinstance(metric, Block)]
        for part in [*walk.blocks(stage.objective), *metrics]:
            if static_constant(part.entry, "binary_label") and not (declared and asks_for_labels(part)):
                return f"'{part.name}' of stage '{stage.name}'"
    return None
