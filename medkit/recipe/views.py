"""``views`` and ``crops`` of a data block: reading them, and whether heads that use them find them there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from medkit.errors import InputError
from medkit.recipe import walk
from medkit.recipe.blocks import Block
from medkit.recipe.model import Crops, DataBlock, Stage, Views, hints
from medkit.recipe.pieces import Pieces
from medkit.recipe.yaml import Node
from medkit.registry.source_text import Unsure, lineage, source

Kind = TypeVar("Kind", Views, Crops)
EXAMPLES = {
    "views": "views: {count: 2, augment: [{use: random_resized_crop}, {use: horizontal_flip}]}",
    "crops": "crops: {count: 6, size: 48, augment: [{use: horizontal_flip}]}",
}
"""What a data block has to say for a batch to contain them."""


def read_views(pieces: Pieces, node: Node, cls: type[Kind], path: str) -> Kind | None:
    """The block; problems go to ``pieces``."""
    if node.value is None:
        return None
    types = hints(cls)
    required = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    entries = pieces.mapping(node, path, list(types), required)
    found: dict[str, Any] = {
        key: pieces.value(child, f"{path}.{key}", types[key]) for key, child in entries.items() if key != "augment"
    }
    if "augment" in entries:
        found["augment"] = pieces.blocks(entries["augment"], "transform", f"{path}.augment")
        if cls is Views and not found["augment"]:
            what = "without a random change all views are alike"
            pieces.problem(entries["augment"].place, f"{path}.augment", what, EXAMPLES["views"])
    if any(found.get(key, ...) is None for key in found) or any(key not in found for key in required):
        return None
    made = cls(**found)
    if isinstance(made, Crops) and made.scale[0] > made.scale[1]:
        what = f"the smallest share {made.scale[0]:g} is above the largest {made.scale[1]:g}"
        pieces.problem(entries["scale"].place, f"{path}.scale", what)
    return made


def check_read(pieces: Pieces, stage: Stage, block: DataBlock) -> None:
    """Refuse heads whose source reads entries of the batch that the data block does not make."""
    for head in walk.blocks(stage.objective):
        for name in _taken(head):
            told = any(problem.what.startswith(f"data.{stage.data}.{name}") for problem in pieces.problems)
            if getattr(block, name) is None and not told:
                what, hint = lacking(head.name, name, stage.data)
                pieces.problem(head.mark, head.path, what, hint)


def lacking(who: str, name: str, data: str) -> tuple[str, str]:
    """What to say of a head, or a stage, that reads ``views`` or ``crops`` where there are none; and what to do."""
    return f"'{who}' reads '{name}', and data block '{data}' makes none", f"write there {EXAMPLES[name]}"


def _taken(block: Block) -> Iterator[str]:
    """Which of ``views`` and ``crops`` a component certainly takes from a batch: ``batch["views"]`` in its own source.

    One that asks whether they are there can do without. What the source leaves open comes out when a run asks the head.
    """
    nodes = method_nodes(block)
    asked = {node.left.value for node in nodes if isinstance(node, ast.Compare) and isinstance(node.left, ast.Constant)}
    for key in EXAMPLES:
        if key not in asked and any(_takes(node, key) for node in nodes):
            yield key


def method_nodes(block: Block) -> list[ast.AST]:
    """The whole source of a component's methods, its bases' included; nothing where it cannot be read."""
    module, _, name = block.entry.target.partition(":")
    try:
        classes = lineage(source(module).named(name))
    except (Unsure, InputError):
        return []
    methods: dict[str, ast.FunctionDef] = {}
    for found in classes:
        for item in found.node.body if isinstance(found.node, ast.ClassDef) else ():
            if isinstance(item, ast.FunctionDef):
                methods.setdefault(item.name, item)
    return [node for method in methods.values() for node in ast.walk(method)]


def _takes(node: ast.AST, key: str) -> bool:
    match node:
        case ast.Subscript(value=ast.Name(id="batch"), slice=ast.Constant(value=value), ctx=ast.Load()):
            return bool(value == key)
    return False


# -- in words ------------------------------------------------------------------------------------------------------


def views_in_words(block: DataBlock) -> str:
    """What is made of each image, such as ``2 views and 6 crops of 48 x 48``; nothing where nothing is."""
    said = []
    if (views := block.views) is not None:
        said.append(f"{views.count} view{'s' * (views.count > 1)} ({_steps(views.augment)})")
    if (crops := block.crops) is not None:
        area = f"{crops.scale[0]:.3g} to {crops.scale[1]:.3g} of the area"
        how = f", {_steps(crops.augment)}" if crops.augment else ""
        said.append(f"{crops.count} crop{'s' * (crops.count > 1)} of {crops.size} x {crops.size} ({area}{how})")
    return " and ".join(said)


def _steps(blocks: list[Block]) -> str:
    return ", ".join(block.entry.name for block in blocks)
