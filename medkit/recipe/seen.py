"""Tests on what was trained on, as far as a recipe alone shows; ``medkit.runs.seen`` looks at the data too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from medkit.errors import InputError, Problems
from medkit.recipe.model import DataBlock, Recipe, Stage, evaluated_splits


def check_seen(recipe: Recipe) -> None:
    """Refuse stages that are tested on what their chain trains or validates on, or validated on what it trains on.

    Raises
    ------
    Problems
        each with its place, unless the report allows it.
    """
    problems = []
    for stage in recipe.stages:
        chain = list(_chain(recipe, stage))
        validated = [(stage.validate, "validated on", "validate")] if stage.validate is not None else []
        tested = evaluated_splits(stage, recipe.stages, recipe.data, recipe.report.splits)
        for split, verb, key in [*((name, "tested on", "evaluate") for name in tested), *validated]:
            if recipe.report.allowed(split) is not None:
                continue
            uses = [use for use in chain if verb == "tested on" or use[1] == "trains"]
            for other, does, seen in uses:
                if not _meet(recipe.data[stage.data], split, recipe.data[other.data], seen):
                    continue
                what = f"stages.{stage.name}.{key}: '{split}' is {verb}, and has patients that '{other.name}' {does} on"
                where = f" ('{seen}' of '{other.data}')" if (other.data, seen) != (stage.data, split) else ""
                place = recipe.places.get((stage.name, key)) or recipe.places.get((stage.name, "name"))
                hint = (
                    "choose other splits; if it is intended, 'report: {allow_seen: REASON}' says so beside the results"
                )
                problems.append(InputError(what + where, None if place is None else str(place), hint))
                break
    if problems:
        raise Problems(problems)


def _chain(recipe: Recipe, stage: Stage) -> Iterator[tuple[Stage, str, str]]:
    """What the stages of a chain do with which splits, the stage itself first."""
    for other in recipe.chain([stage.name]):
        yield other, "trains", other.train
        if other.validate is not None:
            yield other, "validates", other.validate


def _meet(one: DataBlock, split: str, other: DataBlock, seen: str) -> bool:
    """Whether two splits certainly share patients: of the same source, one is all or a part of the other."""
    if one.source.plain() != other.source.plain():
        return False
    return _within(one.splits[split], other.splits[seen]) or _within(other.splits[seen], one.splits[split])


def _within(part: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    """Whether ``whole`` selects everything that ``part`` selects, judged by the columns they name alone."""
    return all(column in part and _texts(part[column]) <= _texts(wanted) for column, wanted in whole.items())


def _texts(wanted: Any) -> set[str]:
    return {str(value) for value in (wanted if isinstance(wanted, list) else [wanted])}
