"""Keys of a stage that would do nothing, or too late: refused where that is certain, else told in words."""

from __future__ import annotations

from medkit.recipe.model import Stage
from medkit.recipe.pieces import Pieces
from medkit.recipe.yaml import Node

PATCHED = ("patch", "patch3d")
"""Units whose items are patches."""


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
