"""Whether a number was measured by one metric with the same arguments everywhere, as recipes say: a metric may be
recorded under one name whatever its arguments are."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from medkit.recipe.difference import first_difference, shown

Plain = Mapping[str, Any]
Measured = tuple[Mapping[str, Any], Mapping[str, Collection[str]]]
"""A resolved recipe, and the names of what was measured of each of its stages."""


def is_of(metric: str, name: str) -> bool:
    """Whether results may have a metric of a recipe under a name: ``rmse_hu`` is of ``medkit:rmse``."""
    own = metric.rpartition(":")[2]
    return name == own or name.startswith(f"{own}_")


def metric_blocks(recipe: Plain, stage: str, name: str) -> list[Plain]:
    """The blocks of a stage's metrics, in a resolved recipe, that results may have under ``name``."""
    own = [one for block in recipe["stages"] if block["name"] == stage for one in block.get("metrics", [])]
    return [one for one in own if is_of(one["use"], name)]


def measured_otherwise(first: Mapping[str, Any], second: Mapping[str, Any], metric: str) -> str:
    """In which arguments the metric recorded as ``metric`` differs between two stages; "" if in none.

    Stages are blocks of a resolved recipe. A metric whose name is not known from the recipe alone is not compared.
    """
    mine, theirs = (_measured_by(stage.get("metrics") or [], metric) for stage in (first, second))
    if mine is None or theirs is None or mine == theirs:
        return ""
    return f"'{metric}' was measured with other arguments ({arguments_apart(mine, theirs)})"


def arguments_apart(first: Plain, second: Plain) -> str:
    """The arguments in which two blocks differ, with both values."""
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    return ", ".join(f"{name} {_told(first, name)} and {_told(second, name)}" for name in names)


def otherwise(runs: Mapping[str, Measured]) -> Iterator[str]:
    """A sentence for each number of a stage that runs have measured with other arguments than the first that has it."""
    first: dict[tuple[str, str], tuple[str, Mapping[str, Any]]] = {}
    for name, (recipe, measured) in runs.items():
        for block in recipe["stages"]:
            for metric in measured.get(block["name"], ()):
                other, theirs = first.setdefault((block["name"], metric), (name, block))
                if told := measured_otherwise(theirs, block, metric):
                    yield f"of stage '{block['name']}' in {other} and {name}, {told}"


def measured_apart(blocks: Mapping[str, Sequence[Plain]], metric: str) -> str | None:
    """In words, the first two methods whose blocks of a metric have nothing in common; None if there are none."""
    for (a, mine), (b, others) in itertools.combinations(((m, each) for m, each in blocks.items() if each), 2):
        if not any(one in others for one in mine):
            key, here, there = first_difference(dict(mine[0]), dict(others[0])) or ("", None, None)
            return f"'{a}' and '{b}' are measured differently: '{metric}' has {key} {shown(here)} and {shown(there)}"
    return None


def _measured_by(metrics: Sequence[Any], name: str) -> Mapping[str, Any] | None:
    """The block of the only metric that may be recorded under a name: its own, or one that begins with its own."""
    blocks = [{"use": metric} if isinstance(metric, str) else metric for metric in metrics]
    exact = [block for block in blocks if str(block.get("use", "")).rpartition(":")[2] == name]
    found = exact or [block for block in blocks if is_of(str(block.get("use", "")), name)]
    return found[0] if len(found) == 1 else None


def _told(block: Mapping[str, Any], name: str) -> str:
    return str(block[name]) if name in block else "its default"
