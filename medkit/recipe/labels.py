"""Labels of a data block: reading them, and whether the parts of a stage that read them take such labels."""

from __future__ import annotations

from medkit.protocols.labels import Labels, labels_of
from medkit.recipe import walk
from medkit.recipe.blocks import Block
from medkit.recipe.given import is_given
from medkit.recipe.model import DataBlock, Stage
from medkit.recipe.pieces import Pieces
from medkit.recipe.yaml import Node
from medkit.registry.static import static_constant

GIVEN = "data.labels"
HEADS = {"one_of": "classification", "any_of": "multilabel", "ordered": "ordinal", "unit": "regression"}
"""The head of each kind of labels."""
EXAMPLES = {
    "one_of": "labels: {one_of: [normal, fracture, other], column: COLUMN}",
    "any_of": "labels: {any_of: [oedema, fracture], column: [COLUMN, COLUMN]}",
    "ordered": "labels: {ordered: [none, mild, severe], column: COLUMN}",
    "unit": "labels: {unit: months, column: COLUMN}",
}


def read_labels(pieces: Pieces, node: Node, path: str) -> Labels | None:
    """The labels of a data block; problems go to ``pieces``."""
    return pieces.declared(node, path, labels_of)


def check_labels(pieces: Pieces, stage: Stage, block: DataBlock) -> None:
    """Refuse what reads declared labels where there are none, or where they are of a kind that it does not take."""
    readers = [part for part in walk.blocks(stage.objective) if asks_for_labels(part)]
    needing = [part for part in readers if static_constant(part.entry, "label_kinds")]
    for part in [*needing, *(metric for metric in stage.metrics if isinstance(metric, Block))]:
        kinds = static_constant(part.entry, "label_kinds")
        if not kinds or (part.kind == "metric" and not readers):
            continue
        said = f"'{part.name}' takes labels that are {_either(kinds)}"
        if block.labels is None:
            what = f"{said}, and data block '{stage.data}' declares none"
            pieces.problem(part.mark, part.path, what, f"write there {EXAMPLES[kinds[0]]}")
        elif block.labels.kind not in kinds:
            what = f"{said}; those of data block '{stage.data}' are {_either((block.labels.kind,))}"
            hint = f"'{HEADS[block.labels.kind]}' does" if part.kind == "pretext" else None
            pieces.problem(part.mark, part.path, what, hint)


def asks_for_labels(part: Block) -> bool:
    """Whether a component is given the labels of its data block."""
    return is_given(part, GIVEN)


def reads_labels(stage: Stage) -> bool:
    """Whether a part of a stage's objective is given the labels of its data block."""
    return any(asks_for_labels(part) for part in walk.blocks(stage.objective))


def _either(kinds: tuple[str, ...]) -> str:
    words = {"unit": "measurements"}
    return " or ".join(words.get(kind, kind) for kind in kinds)
