"""Slices or volumes: what a stage's parts take, and what they are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from medkit.recipe import walk
from medkit.recipe.blocks import Block, Reference
from medkit.recipe.channels import taken
from medkit.recipe.model import Stage
from medkit.recipe.pieces import Pieces
from medkit.recipe.yaml import Node
from medkit.registry.static import static_constant

PARTS = ("encoder", "pretext", "operator", "generator", "discriminator", "distiller")
"""Kinds whose components say by ``dimensions = 3`` that they are for volumes, or by ``(2, 3)`` that they take either;
others are for slices."""
TAKES = {2: "slices", 3: "volumes"}


def check_dimensions(pieces: Pieces, stage: Stage, entries: Mapping[str, Node], earlier: Mapping[str, Stage]) -> None:
    """Refuse parts for volumes in an objective on slices, and vice versa; and patches of the wrong kind."""
    if not isinstance(stage.objective, Block):
        return
    wanted = dimensions(stage.objective)
    for place, part in _parts(stage, earlier):
        if part.kind in PARTS and not set(found := dimensions(part)) & set(wanted):
            what = f"'{part.name}' is for {TAKES[found[0]]}, and '{stage.objective.name}' trains on {TAKES[wanted[0]]}"
            hint = (
                "'multitask3d' trains on patches of volumes"
                if found == (3,)
                else f"'medkit list {part.kind}' says which are"
            )
            pieces.problem(place.mark, place.path, what, hint)
    if stage.unit == "patch" and isinstance(stage.patch_size, tuple) and "patch_size" in entries:
        what, hint = "patches of slices are squares", "one number; 'unit: patch3d' cuts patches out of volumes"
        pieces.problem(entries["patch_size"].mark, f"stages.{stage.name}.patch_size", what, hint)


def dimensions(block: Block) -> tuple[int, ...]:
    """2 for a component for slices, 3 for one for volumes, both for one that takes either."""
    found = static_constant(block.entry, "dimensions")
    return found if isinstance(found, tuple) else (3,) if found == 3 else (2,)


def _parts(stage: Stage, earlier: Mapping[str, Stage]) -> Iterator[tuple[Block | Reference, Block]]:
    """The components of a stage's objective, with the place in the recipe that names them."""
    yield from ((block, block) for block in walk.blocks(stage.objective) if block is not stage.objective)
    yield from taken(stage, earlier)
