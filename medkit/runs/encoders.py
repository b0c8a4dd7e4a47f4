"""Encoders by the name that a command gives: a run, a file of weights, or a timm model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from medkit.data.ledger import Ledger, read_ledger
from medkit.engine.runtime import Runtime, seed_all
from medkit.errors import InputError
from medkit.parts.encoders import TimmEncoder
from medkit.paths import typed
from medkit.recipe import Recipe, Stage
from medkit.recipe.values import SEPARATOR
from medkit.runs.file_digest import digest
from medkit.runs.folder import RunFolder
from medkit.runs.ledgers import recorded_ledger
from medkit.runs.workbench import Workbench

TIMM = "timm:"
FORMS = (
    "a run folder, its weights/STAGE.encoder.safetensors, timm:MODEL, timm:MODEL@FILE.safetensors or timm:MODEL@hub:TAG"
)


@dataclass(frozen=True)
class NamedEncoder:
    """An encoder, and what is known about it.

    Attributes
    ----------
    name:
        What it was asked for as, in short.
    encoder:
        In evaluation mode, on the device.
    ledger:
        Whom its weights have seen; None if nothing is known about them. Random weights have seen nobody.
    recipe, stage:
        Of the run that it comes from.
    notices:
        What readers have to know about the data that it was trained on.
    weights:
        Digest of its file, or how its weights were made.
    """

    name: str
    encoder: nn.Module
    ledger: Ledger | None
    weights: str
    recipe: Recipe | None = None
    stage: Stage | None = None
    notices: list[str] = field(default_factory=list)


def named_encoder(what: str, runtime: Runtime, stage: str | None = None, seed: int = 0) -> NamedEncoder:
    """The encoder that ``what`` names; ``stage`` is that of a run, ``seed`` that of random weights.

    Raises
    ------
    InputError
        if there is no such run, stage, file or model, or the weights do not fit.
    """
    if what.startswith(TIMM):
        if stage is not None:
            raise InputError("a timm model has no stages", "--stage")
        return _of_timm(what, runtime, seed)
    path = Path(what)
    if path.is_dir():
        return _of_run(path, runtime, stage)
    if path.is_file() and path.suffix == ".safetensors":
        return _of_weights(path, runtime, stage)
    raise InputError("this names no encoder", what, f"name {FORMS}")


def random_like(encoder: NamedEncoder, runtime: Runtime, seed: int) -> NamedEncoder:
    """An encoder of the same architecture with random weights, drawn from ``seed``."""
    if encoder.recipe is None or encoder.stage is None:
        model = encoder.name.removeprefix(TIMM).partition("@")[0]
        return _of_timm(TIMM + model, runtime, seed)
    block = _block(encoder.recipe, encoder.stage)
    plain = {name: value for name, value in block.arguments.items() if name != "weights"}
    seed_all(f"random/{seed}")
    made = type(block)(block.entry, plain, mark=block.mark, path=block.path).build()
    return NamedEncoder(f"random, seed {seed}", made.to(runtime.device).eval(), Ledger(), f"random, seed {seed}")


def _block(recipe: Recipe, stage: Stage) -> Any:
    """The block from which a stage's encoder was made, in whichever stage that was."""
    found = stage.objective.arguments["encoder"]
    while not hasattr(found, "entry"):
        found = recipe.stage(found.stage).objective.arguments[found.part]
    return found


def _of_timm(what: str, runtime: Runtime, seed: int) -> NamedEncoder:
    model, _, weights = what.removeprefix(TIMM).partition("@")
    seed_all(f"random/{seed}")
    encoder = TimmEncoder(model, weights=weights or None).to(runtime.device).eval()
    if not weights:
        return NamedEncoder(what, encoder, Ledger(), f"random, seed {seed}")
    if weights.startswith("hub:"):
        return NamedEncoder(what, encoder, None, weights)
    return NamedEncoder(what, encoder, read_ledger(Path(weights)), f"sha256:{digest(Path(weights))}")


def _of_run(path: Path, runtime: Runtime, stage: str | None) -> NamedEncoder:
    folder = RunFolder.open(path)
    recipe = folder.recipe()
    chosen = recipe.stage(stage) if stage else _last(recipe, path)
    if "encoder" not in chosen.objective.arguments:
        raise InputError(f"stage '{chosen.name}' has no encoder", str(path), "--stage names another one")
    file = folder.weights(chosen.name, "encoder")
    if not file.is_file():
        raise InputError(f"stage '{chosen.name}' has no trained encoder", str(file), f"medkit resume {typed(path)}")
    encoder = Workbench(recipe, runtime, folder).part(chosen.name, "encoder").eval()
    notices = folder.read_json("environment.json", {}).get("notices", [])
    ledger = recorded_ledger(folder, chosen.name)
    name = f"{path.resolve().name} {chosen.name}"
    return NamedEncoder(name, encoder, ledger, f"sha256:{digest(file)}", recipe, chosen, list(notices))


def _last(recipe: Recipe, path: Path) -> Stage:
    for stage in reversed(recipe.stages):
        if SEPARATOR not in stage.name and "encoder" in stage.objective.arguments:
            return stage
    hint = "'medkit embed' and 'medkit card' need a run that trains or takes one"
    raise InputError("no stage of this run has an encoder", str(path), hint)


def _of_weights(path: Path, runtime: Runtime, stage: str | None) -> NamedEncoder:
    run, name = path.resolve().parent.parent, path.name.removesuffix(".safetensors")
    if path.resolve().parent.name != "weights" or not RunFolder(run).begun or not name.endswith(".encoder"):
        hint = f"for a file from elsewhere, name its model: timm:MODEL@{path}"
        raise InputError("the model of these weights is not known: they are not in a run folder", str(path), hint)
    if stage is not None:
        raise InputError("the file already belongs to one stage", "--stage", "leave it out, or give the run folder")
    return _of_run(run, runtime, name.removesuffix(".encoder"))
