"""Channels of images: how many a data block makes, and whether the networks of a stage take as many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from medkit.errors import InputError, MedkitError
from medkit.recipe import walk
from medkit.recipe.blocks import Block, Reference
from medkit.recipe.model import DataBlock, Stage
from medkit.recipe.pieces import Pieces
from medkit.recipe.steps import missing
from medkit.registry.static import static_constant, static_schema

NETWORKS = ("encoder", "generator", "discriminator")
ARGUMENTS = ("in_channels", "image_channels")
"""What networks that take images, and heads that make them, call the number of channels."""


def channels_of(block: DataBlock) -> int:
    """How many channels the prepared images of a data block have; no image is read for it.

    Raises
    ------
    InputError
        if a step of preparation does not take as many channels as it is given.
    """
    count = images_of(block.source)
    for step in block.prepare:
        if isinstance(step, Block) and missing(step, "channels") is None:
            try:
                count = int(step.build().channels(count))
            except InputError as error:
                raise InputError(f"{step.path}: {error.what}", str(step.mark), error.hint) from error
    return count


def images_of(source: Any) -> int:
    """How many images make up a case of a source: one, unless it says otherwise."""
    if not isinstance(source, Block) or missing(source, "channels") is not None:
        return 1
    try:
        return int(getattr(source.build(), "channels", 1))
    except MedkitError:
        return 1  # reported when the source is built


def settle_channels(pieces: Pieces, stage: Stage, count: int, earlier: Mapping[str, Stage]) -> None:
    """Set the stage's networks to ``count`` image channels where the recipe leaves it open; refuse any other number."""
    have = "one channel" if count == 1 else f"{count} channels"
    said = f"images of data block '{stage.data}' have {have}"
    if count > 1 and isinstance(stage.objective, Block) and static_constant(stage.objective.entry, "external"):
        what = f"'{stage.objective.name}' takes images of one channel; {said}"
        pieces.problem(stage.objective.mark, stage.objective.path, what)
    for block in walk.blocks(stage.objective):
        known = static_schema(block.entry).arguments
        for name in ARGUMENTS:
            if name not in known or block.kind not in (*NETWORKS, "pretext"):
                continue
            found = block.arguments.get(name, known[name].default)
            if name not in block.arguments and found != count:
                block.arguments[name] = count
            elif isinstance(found, int) and found != count:
                hint = f"write '{name}: {count}', or leave it out"
                pieces.problem(block.mark, f"{block.path}.{name}", f"{said}, not {found}", hint)
        if count > 1 and block.kind in NETWORKS and "in_channels" not in known:
            what = f"'{block.name}' takes images of one channel; {said}"
            pieces.problem(block.mark, block.path, what, f"choose another {block.kind}, or prepare one channel")
    for reference, part in taken(stage, earlier):
        found = part.arguments.get("in_channels", 1)
        if part.kind in NETWORKS and found != count:
            what = f"{said}, and '{reference.stage}.{reference.part}' was trained on {found}"
            pieces.problem(reference.mark, reference.path, what, "prepare images alike in both data blocks")


def taken(stage: Stage, earlier: Mapping[str, Stage]) -> Iterator[tuple[Reference, Block]]:
    """Parts that the stage takes from earlier ones, as they are there."""
    for reference, _ in walk.references(stage.objective):
        part: Any = reference
        while isinstance(part, Reference) and part.stage in earlier:
            part = walk.part(earlier[part.stage].objective, part.part)
        if isinstance(part, Block):
            yield reference, part
