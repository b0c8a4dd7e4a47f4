"""``report.stress``: curves of a stage over the dose of the scans that it is tested on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from medkit.recipe.blocks import Block
from medkit.recipe.model import DataBlock, Stage, evaluated_splits
from medkit.recipe.pieces import Pieces, names_there
from medkit.recipe.report_model import Stress
from medkit.recipe.values import SEPARATOR
from medkit.recipe.yaml import Node
from medkit.registry.static import static_constant

REQUIRED = ("stages", "split", "dose")


def read_stress(
    pieces: Pieces, node: Node, data: Mapping[str, DataBlock], stages: Sequence[Stage], reported: Sequence[str]
) -> dict[str, Stress]:
    """Check the curves; problems go to ``pieces``."""
    found = {}
    for name, child in pieces.mapping(node, "report.stress", None).items():
        path = f"report.stress.{name}"
        pieces.name(name, child.place, path)
        if SEPARATOR in name:
            pieces.problem(
                child.place, path, f"a curve's name cannot contain '{SEPARATOR}', which stands before its doses"
            )
        before = len(pieces.problems)
        curve: Stress | None = pieces.record(child, Stress, path)
        if curve is None or len(pieces.problems) > before:
            continue
        if not curve.stages:
            pieces.problem(child.value["stages"].place, f"{path}.stages", "no stage is named")
        for stage in curve.stages:
            _check_stage(pieces, child, (path, stage, curve.split), data, stages, reported)
        _check_doses(pieces, child, path, curve)
        if curve.denoise is not None:
            curve = replace(curve, denoise=_denoiser(pieces, child.value["denoise"], path, curve, stages))
        found[name] = curve
    return found


def _check_stage(
    pieces: Pieces,
    node: Node,
    named: tuple[str, str, str],
    data: Mapping[str, DataBlock],
    stages: Sequence[Stage],
    reported: Sequence[str],
) -> None:
    """The stage is there, predicts from images, has metrics, and is tested on the split."""
    path, name, split = named
    mark, names = node.value["stages"].place, [stage.name for stage in stages]
    stage = next((stage for stage in stages if stage.name == name), None)
    if stage is None:
        pieces.problem(mark, f"{path}.stages", f"no stage is named '{name}'", names_there(name, names))
        return
    if not isinstance(stage.objective, Block):
        return  # already reported
    if stage.fitted or bool(static_constant(stage.objective.entry, "external")):
        what = f"'{stage.objective.name}' does not predict from the images that it is given"
        pieces.problem(mark, f"{path}.stages", what, "name a stage whose network medkit trains")
    if not stage.metrics:
        pieces.problem(mark, f"{path}.stages", f"stage '{stage.name}' has no metric", "give it one")
    tested = evaluated_splits(stage, stages, data, reported)
    if split not in tested:
        what = f"stage '{stage.name}' is not tested on '{split}'"
        pieces.problem(node.value["split"].mark, f"{path}.split", what, names_there(split, tested))


def _check_doses(pieces: Pieces, node: Node, path: str, curve: Stress) -> None:
    """Several doses, each once, and the scans' own among them, which the others are compared with."""
    mark, path = node.value["dose"].place, f"{path}.dose"
    if len({f"{dose:g}" for dose in curve.dose}) < len(curve.dose):
        pieces.problem(mark, path, "a dose is there twice")
    if 1 not in curve.dose:
        pieces.problem(mark, path, "the scans' own dose is missing, which the others are compared with", "add 1")
    elif len(curve.dose) < 2:
        pieces.problem(mark, path, "one dose is not a curve", "such as [1, 0.5, 0.25, 0.1]")


def _denoiser(pieces: Pieces, node: Node, path: str, curve: Stress, stages: Sequence[Stage]) -> str:
    """The name of an earlier stage that denoises, or the absolute path of a run's folder."""
    path, text = f"{path}.denoise", str(node.value)
    names = [stage.name for stage in stages]
    if text not in names:
        beside = pieces.folder is not None and not node.mark.file.startswith("--set")
        start = str(pieces.folder) if beside else ""
        folder = os.path.abspath(os.path.join(start, os.path.expanduser(text)))
        if not os.path.isfile(os.path.join(folder, "recipe.yaml")):
            what = f"'{text}' is neither a stage nor the folder of a run"
            pieces.problem(node.mark, path, what, names_there(text, names))
        return folder
    if late := [stage for stage in curve.stages if stage in names and names.index(text) >= names.index(stage)]:
        what = f"'{text}' is trained after '{late[0]}', which is to get what it denoises"
        pieces.problem(node.mark, path, what, "put it before")
    elif stages[names.index(text)].unit != "patch":
        pieces.problem(node.mark, path, f"stage '{text}' is not a denoiser: it does not train on 'unit: patch'")
    return text
