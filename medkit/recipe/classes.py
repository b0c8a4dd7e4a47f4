"""Classes of masks: reading them, and whether what reads masks in a stage knows of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from medkit.protocols.classes import Classes, classes_of
from medkit.recipe import walk
from medkit.recipe.blocks import Block
from medkit.recipe.given import is_given
from medkit.recipe.model import DataBlock, Stage
from medkit.recipe.pieces import Pieces
from medkit.recipe.views import method_nodes
from medkit.recipe.yaml import Node
from medkit.registry.static import static_constant

GIVEN = "data.classes"


def read_classes(pieces: Pieces, node: Node, path: str) -> Classes | None:
    """The classes of a data block; problems go to ``pieces``."""
    return pieces.declared(node, path, classes_of)


def check_classes(pieces: Pieces, stage: Stage, block: DataBlock) -> None:
    """Refuse what would mistake the class numbers in masks for something else."""
    if block.classes is None or not isinstance(stage.objective, Block):
        return
    said = f"masks of data block '{stage.data}' have classes"
    for part in _unaware(stage.objective):
        hint = _hint(part)
        pieces.problem(part.mark, part.path, f"'{part.name}' does not know of classes, and {said}", hint)


def _unaware(objective: Block) -> Iterator[Block]:
    """The parts of an objective that read masks without asking for their classes."""
    if static_constant(objective.entry, "external") or objective.arguments.get("target") == "mask":
        yield objective
    segments = False
    for part in walk.blocks(objective):
        if part.kind == "operator" and static_constant(part.entry, "task") == "segmentation":
            segments = True
        elif part.kind != "pretext" or not _reads_mask(part):
            continue
        if not asks_for_classes(part):
            yield part
    losses = [loss for loss in objective.arguments.get("ties", ()) if isinstance(loss, Block)]
    losses += [loss for _, loss in walk.children(objective.arguments.get("losses")) if segments]
    yield from (loss for loss in losses if isinstance(loss, Block) and not asks_for_classes(loss))


def _hint(part: Block) -> str | None:
    if part.kind == "loss":
        return "'class_dice' and 'cross_entropy' do"
    return "'smartnet:scse_unet' and 'smartnet:smp' do" if part.kind == "pretext" else None


def asks_for_classes(part: Block) -> bool:
    """Whether a component is given the classes of its data block."""
    return is_given(part, GIVEN)


def _reads_mask(part: Block) -> bool:
    """Whether the source of a component contains ``batch["mask"]``."""
    for node in method_nodes(part):
        match node:
            case ast.Subscript(value=ast.Name(id="batch"), slice=ast.Constant(value="mask")):
                return True
    return False
