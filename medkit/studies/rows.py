"""Rows of a table as the methods of a study: a stage of the recipe and its variants.

So a table that a recipe trains once per row becomes a study of it: with several seeds, intervals and verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from medkit.errors import InputError
from medkit.recipe import Recipe
from medkit.recipe.pieces import names_there
from medkit.recipe.values import SEPARATOR
from medkit.recipe.yaml import Mark, Node
from medkit.studies.study import Method

REPEAT = "repeat"


def rows_of(root: Node, stages: Sequence[str], mark: Mark) -> tuple[Method, ...]:
    """The methods that a recipe's stages stand for: each stage itself, named as the first of them, and its variants.

    Several stages of a method have the same variants: what is trained upstream, say, then two tasks on it.

    Raises
    ------
    InputError
        if the recipe has no such stage, or the stages have other variants than the first or none.
    """
    found = {name: _variants(root, name) for name in stages}
    first, *others = stages
    labels = list(found[first])
    if not labels:
        raise InputError(f"stage '{first}' has no variants, so it is a single row", hint="give it a 'repeat' block")
    for name in others:
        if odd := sorted(set(found[name]) ^ set(labels)):
            has, lacks = (name, first) if odd[0] in found[name] else (first, name)
            raise InputError(f"stage '{has}' has a variant '{odd[0]}', and '{lacks}' has none of that name")
    # What tables call their rows is not there once each of them is a run of its own.
    alone = {f"stages.{name}.{REPEAT}": Node({}, mark) for name in stages} | _without_tables(root, mark)
    methods = [Method(first, alone, (), mark, tuple(stages))]
    for label in labels:
        # A row that takes a part of another row's stage takes it of the stage that has become that one.
        renamed = {f"{name}{SEPARATOR}{label}.": f"{name}." for name in stages}
        changes = {
            f"stages.{name}.{key}": _renamed(node, renamed)
            for name in stages
            for key, node in found[name][label].items()
        }
        methods.append(Method(label, {**changes, **alone}, (), mark, tuple(stages)))
    return tuple(methods)


def _variants(root: Node, stage: str) -> dict[str, dict[str, Node]]:
    """What each variant of a stage changes, by its label; what is no mapping is reported when the recipe is read."""
    blocks = [block.value for block in _list(_get(root, "stages")) if isinstance(block.value, dict)]
    known = {str(block["name"].value): block for block in blocks if "name" in block}
    if stage not in known:
        raise InputError(f"the recipe has no stage '{stage}'", hint=names_there(stage, known))
    repeat = known[stage].get(REPEAT)
    variants = repeat.value if repeat is not None and isinstance(repeat.value, dict) else {}
    return {label: node.value if isinstance(node.value, dict) else {} for label, node in variants.items()}


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    """The node with references to stages under their new names."""
    if isinstance(node.value, list):
        return replace(node, value=[_renamed(child, names) for child in node.value])
    if not isinstance(node.value, dict):
        return node
    found = {key: _renamed(child, names) for key, child in node.value.items()}
    taken = found.get("from")
    if taken is not None and isinstance(taken.value, str):
        for old, new in names.items():
            if taken.value.startswith(old):
                found["from"] = replace(taken, value=new + taken.value.removeprefix(old))
    return replace(node, value=found)


def _without_tables(root: Node, mark: Mark) -> dict[str, Node]:
    report = _get(root, "report")
    return {"report.tables": Node([], mark)} if report is not None and _get(report, "tables") is not None else {}


def _get(node: Node, key: str) -> Node | None:
    return node.value.get(key) if isinstance(node.value, dict) else None


def _list(node: Node | None) -> list[Node]:
    return node.value if node is not None and isinstance(node.value, list) else []


def with_only(recipe: Recipe, stages: Sequence[str]) -> Recipe:
    """The recipe with some stages and those that these take parts from, directly or not."""
    needed = {stage.name for stage in recipe.chain(stages)}
    return recipe.without([stage.name for stage in recipe.stages if stage.name not in needed])
