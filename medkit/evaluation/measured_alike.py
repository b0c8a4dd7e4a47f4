"""Whether methods are measured alike: a metric recorded under one name may have other arguments in each of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from medkit.recipe.difference import first_difference, shown

Plain = Mapping[str, Any]


def is_of(metric: str, name: str) -> bool:
    """Whether results may have a metric of a recipe under a name: ``rmse_hu`` is of ``medkit:rmse``."""
    own = metric.rpartition(":")[2]
    return name == own or name.startswith(f"{own}_")


def metric_blocks(recipe: Plain, stage: str, name: str) -> list[Plain]:
    """The blocks of a stage's metrics, in a resolved recipe, that results may have under ``name``."""
    own = [one for block in recipe["stages"] if block["name"] == stage for one in block.get("metrics", [])]
    return [one for one in own if is_of(one["use"], name)]


def measured_apart(blocks: Mapping[str, Sequence[Plain]], metric: str) -> str | None:
    """In words, the first two methods whose blocks of a metric have nothing in common; None if there are none."""
    for (a, mine), (b, others) in itertools.combinations(((m, each) for m, each in blocks.items() if each), 2):
        if not any(one in others for one in mine):
            key, here, there = first_difference(dict(mine[0]), dict(others[0])) or ("", None, None)
            return f"'{a}' and '{b}' are measured differently: '{metric}' has {key} {shown(here)} and {shown(there)}"
    return None
