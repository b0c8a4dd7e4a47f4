"""Names of turns and parts that a stage's keys refer to, checked against the objective's source."""

from __future__ import annotations

import ast

from medkit.errors import InputError
from medkit.recipe import walk
from medkit.recipe.blocks import Block
from medkit.recipe.model import Stage
from medkit.recipe.pieces import Pieces, names_there
from medkit.recipe.yaml import Node
from medkit.registry.promises_static import MODULE
from medkit.registry.source_text import Unsure, lineage, source


def check_turn_names(pieces: Pieces, stage: Stage, entries: dict[str, Node], path: str) -> None:
    """Refuse optimizers and schedules of turns that the objective does not have, and turns that get none."""
    known = turns_of(stage.objective) if isinstance(stage.objective, Block) else None
    if not known:
        return  # a run asks the built objective
    for key in ("optim", "schedule"):
        given = getattr(stage, key)
        if not isinstance(given, dict):
            continue
        for name in (name for name in given if name not in known):
            what = f"the objective has no turn '{name}'"
            pieces.problem(entries[key].value[name].place, f"{path}.{key}.{name}", what, names_there(name, known))
        if set(given) < set(known):
            what = f"turn '{next(name for name in known if name not in given)}' is missing"
            pieces.problem(entries[key].place, f"{path}.{key}", what, f"the objective's turns: {', '.join(known)}")


def check_part_names(pieces: Pieces, stage: Stage, entries: dict[str, Node], path: str) -> None:
    """Refuse to unfreeze or to divide parts that the objective does not have; that of a plugin may have some that no
    recipe names, so a run asks the built one."""
    parts = dict(walk.parts(stage.objective))
    own = isinstance(stage.objective, Block) and stage.objective.entry.target.startswith("medkit.")
    if parts and not own:
        return
    # A program of its own has none; which keys it leaves alone is told when it runs.
    named = [(entries["shard"].mark, f"{path}.shard", name) for name in stage.shard or ()]
    if stage.unfreeze is not None and parts:
        place = entries["unfreeze"].value["part"].mark
        named.append((place, f"{path}.unfreeze.part", stage.unfreeze.part))
    for place, key, name in named:
        if name not in parts:
            pieces.problem(place, key, f"the objective has no part '{name}'", names_there(name, parts))


def turns_of(objective: Block) -> list[str] | None:
    """The names of an objective's turns, if its source lists them; None where it leaves them open."""
    module, _, name = objective.entry.target.partition(":")
    try:
        owners = lineage(source(module).named(name))
    except (Unsure, InputError):
        return None
    for owner in owners:
        if not isinstance(owner.node, ast.ClassDef):
            if owner.foreign == MODULE:
                continue
            return None
        for item in owner.node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "turns":
                return _listed(item)
    return None


def _listed(method: ast.FunctionDef) -> list[str] | None:
    """The names in the only ``return [Turn("name", ...), ...]`` of a method."""
    returned = [node.value for node in ast.walk(method) if isinstance(node, ast.Return)]
    if method.decorator_list or len(returned) != 1 or not isinstance(returned[0], ast.List | ast.Tuple):
        return None
    names = []
    for made in returned[0].elts:
        match made:
            case ast.Call(func=ast.Name(id="Turn"), args=[ast.Constant(value=str() as name), *_]):
                names.append(name)
            case _:
                return None
    return names
