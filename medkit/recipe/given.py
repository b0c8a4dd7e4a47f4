"""What components ask of their siblings, such as a head for the encoder's tokens, before a run builds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from medkit.errors import InputError
from medkit.recipe import walk
from medkit.recipe.blocks import Block, Reference
from medkit.recipe.model import Stage
from medkit.recipe.pieces import Pieces
from medkit.registry.marks import File
from medkit.registry.promises import PROMISED, wanted
from medkit.registry.schema import Argument
from medkit.registry.static import static_schema


def check_given(pieces: Pieces, stage: Stage, earlier: Mapping[str, Stage]) -> None:
    """Refuse a component whose sibling lacks an attribute that it asks for and that not all of that kind have.

    The sibling is built for this, without its weights or memory for them; one that nothing asks this way is not.
    """
    if pieces.problems:
        return  # nothing can be built from it
    for parent in walk.blocks(stage.objective):
        for name, child in walk.parts(parent):
            for root, attribute in _asked(child):
                sibling = _found(parent.arguments.get(root), earlier)
                if sibling is None or _promised(sibling, attribute):
                    continue
                try:
                    lacking = not hasattr(_empty(sibling), attribute)
                except InputError as error:
                    pieces.problems.append(error)
                    return
                if lacking:
                    what = f"'{child.name}' needs the {attribute} of the {root}, and '{sibling.name}'"
                    said = ", ".join(f"{k}: {v}" for k, v in sibling.arguments.items() if isinstance(v, str))
                    hint = f"choose another {root}, or leave '{name}' out"
                    pieces.problem(
                        child.mark, child.path, f"{what} has none ({said})" if said else f"{what} has none", hint
                    )
                    break


def is_given(part: Block, path: str) -> bool:
    """Whether a component has an argument that is given to it from ``path``, such as ``data.labels``."""
    arguments = static_schema(part.entry).arguments.values()
    return any(argument.given is not None and argument.given.path == path for argument in arguments)


def _asked(block: Any) -> Iterator[tuple[str, str]]:
    """Arguments that are attributes of a sibling: its name, and the attribute's."""
    if not isinstance(block, Block):
        return
    for argument in static_schema(block.entry).arguments.values():
        if argument.given is not None:
            root, _, attribute = argument.given.path.partition(".")
            if attribute and "." not in attribute:
                yield root, attribute


def _found(part: Any, earlier: Mapping[str, Stage]) -> Block | None:
    """The component itself, even where it is taken from an earlier stage."""
    while isinstance(part, Reference):
        if part.stage not in earlier:
            return None
        part = walk.part(earlier[part.stage].objective, part.part)
    return part if isinstance(part, Block) else None


def _promised(block: Block, attribute: str) -> bool:
    return any(attribute in wanted(protocol)[0] for protocol in PROMISED[block.kind])


def _empty(block: Block) -> Any:
    """A component as it is built, except for weights: none are read, fetched or drawn."""
    import torch

    arguments = static_schema(block.entry).arguments
    kept = {k: v for k, v in block.arguments.items() if k not in arguments or not _names_file(arguments[k])}
    with torch.device("meta"):
        return replace(block, arguments=kept).build()


def _names_file(argument: Argument) -> bool:
    return argument.default is None and any(isinstance(mark, File) for mark in _marks(argument.annotation))


def _marks(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for part in getattr(annotation, "__args__", ()):
        yield from _marks(part)
