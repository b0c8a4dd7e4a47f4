"""What is inside a component of a recipe: its parts, all components, references to earlier stages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from medkit.recipe.blocks import Block, Reference
from medkit.registry.static import static_constant, static_schema


def children(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from ((str(i), item) for i, item in enumerate(value))


def parts(block: Any) -> Iterable[tuple[str, Any]]:
    """Named components inside an objective: ``encoder``, ``heads.seg`` and so on; copies of them that it makes."""
    if not isinstance(block, Block):
        return
    found = {}
    for name, value in block.arguments.items():
        if isinstance(value, Block | Reference):
            found[name] = value
        for key, child in children(value):
            if isinstance(child, Block | Reference):
                found[f"{name}.{key}"] = child
    copies = static_constant(block.entry, "copied_parts") or {}
    yield from found.items()
    yield from ((copy, found[part]) for copy, part in copies.items() if part in found)


def blocks(value: Any) -> Iterable[Block]:
    """A component and those inside it."""
    if isinstance(value, Block):
        yield value
        for argument in value.arguments.values():
            yield from blocks(argument)
    else:
        for _, child in children(value):
            yield from blocks(child)


def part(block: Any, path: str) -> Any:
    return dict(parts(block)).get(path)


def references(block: Any) -> Iterable[tuple[Reference, str]]:
    """References inside an objective, with the kind of the slot that each fills."""
    if not isinstance(block, Block):
        return
    schema = static_schema(block.entry)
    for name, value in block.arguments.items():
        argument = schema.arguments.get(name)
        if argument is None or argument.slot is None:
            continue
        for child in [value, *(item for _, item in children(value))]:
            if isinstance(child, Reference):
                yield child, argument.slot.kind
            elif isinstance(child, Block):
                yield from references(child)
