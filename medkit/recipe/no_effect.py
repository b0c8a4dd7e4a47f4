"""Keys of a stage that would do nothing, or too late: refused where that is certain, else told in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from medkit.recipe.blocks import Block
from medkit.recipe.model import Stage
from medkit.recipe.pieces import Pieces
from medkit.recipe.yaml import Node
from medkit.registry.static import static_schema

PATCHED = ("patch", "patch3d")
"""Units whose items are patches."""
SCALING = ("medkit:window", "medkit:windows", "medkit:min_max", "medkit:clip_percentiles")
"""Steps after which images are in [0,1] (the last one unless it is told not to ``stretch``)."""


def check_unit_keys(pieces: Pieces, stage: Stage, entries: dict[str, Node], path: str) -> None:
    """Refuse keys about what is drawn from a case where nothing of the kind is."""
    if stage.draw is not None and stage.unit == "volume":
        what, hint = "whole volumes are trained on, so no slice is drawn", "leave 'draw' out"
        pieces.problem(entries["draw"].mark, f"{path}.draw", what, hint)
    plain = Stage(stage.name, stage.objective)
    for key in ("patches", "patch_size") if stage.unit not in (*PATCHED, None) else ():
        # A resolved recipe writes defaults out; what is not of its type has already been reported.
        if key in entries and getattr(stage, key) not in (getattr(plain, key), None):
            what = f"whole {stage.unit}s are trained on, so no patch is cut out of them"
            hint = f"leave '{key}' out, or write 'unit: patch' or 'unit: patch3d' if the objective trains on it"
            pieces.problem(entries[key].mark, f"{path}.{key}", what, hint)


def check_windows(pieces: Pieces, steps: Sequence[Any], path: str) -> None:
    """Refuse a window in HU of images that a step before it has brought to [0,1]: it would clip nearly all of them."""
    scaled: Block | None = None
    for step in steps:
        if not isinstance(step, Block):
            continue  # already reported
        ends = [end for low, high in _windows(step) for end in (low, high)]
        if scaled is not None and any(not 0 <= end <= 1 for end in ends):
            what = f"'{scaled.name}' before it has brought images to [0,1], and this one is of {_told(ends)}"
            pieces.problem(step.mark, path, what, "leave one of them out, or give the second ends from 0 to 1")
        if step.entry.full_name in SCALING and step.arguments.get("stretch") is not False:
            scaled = step


def _windows(step: Block) -> Iterator[tuple[float, float]]:
    """The lowest and highest value of each window that a step applies; what is no number has been reported."""
    given = {name: argument.default for name, argument in static_schema(step.entry).arguments.items()} | step.arguments
    pairs = {"medkit:window": [(given.get("low"), given.get("high"))], "medkit:windows": given.get("windows")}
    for pair in pairs.get(step.entry.full_name) or ():
        if isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(end, int | float) for end in pair):
            yield pair[0], pair[1]


def _told(ends: Sequence[float]) -> str:
    return ", ".join(f"{low:g} to {high:g}" for low, high in zip(ends[::2], ends[1::2], strict=True))


# -- in words ------------------------------------------------------------------------------------------------------


def too_late(stage: Stage, steps: int | None = None) -> list[str]:
    """What a stage's training ends before, in clauses; ``steps`` are those of an epoch, where they are known."""
    schedules = stage.schedule if isinstance(stage.schedule, dict) else {"": stage.schedule}
    warming = {turn: warm_up_told(block, stage.epochs, steps) for turn, block in schedules.items()}
    found = [f"{turn}: {told}" if turn else told for turn, told in warming.items() if told]
    return [*found, *filter(None, [never_opens(stage)])]


def warm_up_told(schedule: Block, epochs: int | None, steps: int | None = None) -> str:
    """That a schedule's full rate is never reached; empty if it is, or if that is not known."""
    argument = static_schema(schedule.entry).arguments.get("warmup")
    warmup = schedule.arguments.get("warmup", argument.default if argument is not None else None)
    by = "step" if schedule.keys.get("by") == "step" else "epoch"
    if not isinstance(warmup, int) or epochs is None or (by == "step" and steps is None):
        return ""
    end = epochs * steps if by == "step" and steps is not None else epochs
    return f"the warm-up of {warmup} {by}s outlasts the {end} of the stage" if warmup > end else ""


def never_opens(stage: Stage) -> str:
    """That ``unfreeze`` opens nothing in the epochs of the stage; empty if it does."""
    plan = stage.unfreeze
    if plan is None or stage.epochs is None or plan.after < stage.epochs:
        return ""
    why = f"'unfreeze' opens it after {plan.after} epochs, and the stage has {stage.epochs}"
    return f"'{plan.part}' stays frozen: {why}"
