"""A panel: tasks by which encoders are judged, as a recipe of probes without an encoder, and what else is examined."""

from __future__ import annotations

import importlib.resources
import typing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Gt, Le, MinLen
from torch import nn

from medkit.errors import InputError, did_you_mean
from medkit.recipe import Recipe, Stage
from medkit.recipe import yaml as yaml_marks
from medkit.recipe.blocks import Block, Reference
from medkit.recipe.load import PANELS
from medkit.recipe.reader import read_recipe
from medkit.recipe.values import Seed
from medkit.recipe.yaml import Node
from medkit.registry.schema import validate

STAND_IN = {"use": "medkit:timm", "model": "test_resnet"}
Fraction = Annotated[float, Gt(0), Le(1)]


@dataclass(frozen=True)
class Looked:
    """What a card shows besides the probes: the block ``card`` of a panel.

    Attributes
    ----------
    test:
        The split on which everything is measured.
    seeds:
        Of random encoders, and of the patients that a fraction keeps.
    fractions, curves:
        Fractions of the training patients, and the stages that are probed with each of them.
    features:
        The stage on whose images features are examined without a task.
    center:
        The data block whose centres are predicted from features.
    dose:
        For one stage, other data blocks with the same cases, as ``{stage: bleeds, data: {"50 %": half}}``.
    """

    test: str
    seeds: Annotated[list[Seed], MinLen(1)]
    fractions: list[Fraction] = field(default_factory=list)
    curves: list[str] = field(default_factory=list)
    features: str | None = None
    center: str | None = None
    dose: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
    recipe: Recipe
    looked: Looked

    def objective(self, stage: Stage, encoder: nn.Module) -> Any:
        """The probe of a stage on an encoder."""
        block = stage.objective
        taken = Block(block.entry, {**block.arguments, "encoder": Reference("card", "encoder")}, mark=block.mark)
        objective = taken.build(taken=lambda stage, part: encoder)
        objective.unit = stage.unit
        return objective


def read_panel(name: str | Path) -> Panel:
    """Read and check a panel given by its path or by the name of a bundled one.

    Raises
    ------
    InputError
        with every problem found, each with file, line and key.
    """
    path = _find(name)
    root = yaml_marks.read(path, str(name))
    if not isinstance(root.value, dict) or "card" not in root.value:
        raise InputError("this is not a panel: it has no block 'card'", str(name), "docs/cards.md shows one")
    card = root.value.pop("card")
    stages = root.value["stages"].value if "stages" in root.value else []
    for node in stages if isinstance(stages, list) else []:
        _put_encoder(node, str(name))
    recipe = read_recipe(root, folder=path.resolve().parent if Path(name).is_file() else None)
    wrong = [stage.name for stage in recipe.stages if not stage.fitted]
    if wrong:
        raise InputError(
            f"stage '{wrong[0]}' is not a probe", str(name), "a panel trains nothing: objective: {use: probe}"
        )
    looked = _looked(card, str(name))
    _check_names(recipe, looked, str(card.place))
    return Panel(recipe, looked)


def _find(name: str | Path) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    root = Path(str(importlib.resources.files("medkit_recipes"))) / PANELS
    known = {item.stem: item for item in sorted(root.glob("*.yaml"))}
    if str(name) in known:
        return known[str(name)]
    hint = did_you_mean(str(name), known) or f"bundled panels: {', '.join(known)}"
    raise InputError("there is no such panel file, and no bundled panel of that name", str(name), hint)


def _put_encoder(node: Node, where: str) -> None:
    """A stand-in where the encoder being judged will be."""
    objective = node.value.get("objective") if isinstance(node.value, dict) else None
    if objective is None or not isinstance(objective.value, dict):
        return  # reported when the stage is read
    if "encoder" in objective.value:
        what = "a panel's probe has an encoder, but the encoder being judged takes that place"
        raise InputError(what, str(objective.value["encoder"].place), "leave it out")
    objective.value["encoder"] = yaml_marks.from_python(STAND_IN, where)


def _looked(card: Node, where: str) -> Looked:
    plain = card.plain()
    if not isinstance(plain, dict):
        raise InputError("'card' is a mapping", str(card.place))
    types = typing.get_type_hints(Looked, include_extras=True)
    for key in plain:
        if key not in types:
            hint = did_you_mean(key, types) or f"it has: {', '.join(types)}"
            raise InputError(f"'card' has no '{key}'", str(card.place), hint)
    missing = [f.name for f in fields(Looked) if f.name in ("test", "seeds") and f.name not in plain]
    if missing:
        raise InputError(f"'card' lacks '{missing[0]}'", str(card.place))
    values = {}
    for key, value in plain.items():
        try:
            values[key] = validate(types[key], value)
        except InputError as error:
            raise InputError(f"card.{key}: {error.what}", str(card.place), error.hint) from error
    return Looked(**values)


def _check_names(recipe: Recipe, looked: Looked, where: str) -> None:
    """Everything that the card names exists."""
    stages = [stage.name for stage in recipe.stages]
    wanted = [("curves", name, stages) for name in looked.curves]
    wanted += [("features", looked.features, stages)] if looked.features else []
    wanted += [("center", looked.center, list(recipe.data))] if looked.center else []
    if looked.dose:
        if set(looked.dose) != {"stage", "data"} or not isinstance(looked.dose["data"], dict):
            raise InputError(
                "'card.dose' has a stage, and data blocks by what they are", where, "{stage: A, data: {B: C}}"
            )
        wanted += [("dose", looked.dose["stage"], stages)]
        wanted += [("dose", block, list(recipe.data)) for block in looked.dose["data"].values()]
    for key, name, known in wanted:
        if name not in known:
            raise InputError(f"card.{key}: there is no '{name}'", where, did_you_mean(str(name), known))
    for block in {stage.data for stage in recipe.stages}:
        if looked.test not in recipe.data[block].splits:
            raise InputError(f"data block '{block}' has no split '{looked.test}'", where, "every stage is tested on it")
