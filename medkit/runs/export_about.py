"""What a program has to know about an exported network to use it: inputs, outputs, and what is done around it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
from torch.export import ExportedProgram

from medkit.engine.settings import Criterion
from medkit.recipe import Recipe, Stage
from medkit.recipe.blocks import Block
from medkit.recipe.channels import channels_of
from medkit.runs.export_graph import RESTORED, Graph, sizes
from medkit.runs.predictor import DEFAULT

OF = {"volume": "of the volume", "slice": "of each slice"}
HOLDS = {
    "probability": "probability {of}",
    "class_probability": "probability of each class, {of}",
    "label_probability": "probability that a class is there, {of}",
    "value": "value {of}",
    "mask_probability": "probability that a pixel belongs to the mask",
    "output": "the image, denoised, in [0,1] of the window",
    "reconstruction": "the prepared image as the network reconstructs it",
}


def interface(
    recipe: Recipe, stage: Stage, graph: Graph, program: ExportedProgram, spacings: Sequence[Sequence[float]]
) -> dict[str, Any]:
    """Inputs and outputs with their axes, the preparation in and before the graph, threshold, classes, unit and tiles.

    Parameters
    ----------
    spacings:
        mm, of cases that the network was made for.
    """
    block = recipe.data[stage.data]
    inside = block.prepare[len(block.prepare) - len(graph.divided.inside) :]
    before = block.prepare[: len(block.prepare) - len(inside)]
    axes = sizes(program)
    units = "HU" if any(getattr(step, "needs_hu", None) for step in _steps(graph)) else "stored"
    found: dict[str, Any] = {
        "inputs": [
            {"name": name, "type": "float32", "axes": shape, "holds": _given(name, units, bool(before))}
            for name, shape in zip(graph.inputs, axes["inputs"], strict=True)
        ],
        "outputs": [
            {"name": name, "type": "float32", "axes": shape, "holds": _said(name, stage, graph)}
            for name, shape in zip(graph.outputs, axes["outputs"], strict=True)
        ],
        "slices": "those of one volume, in their order" if stage.unit == "volume" else "any number of them",
        "preparation": {
            "before": [_plain(*pair) for pair in zip(before, graph.divided.before, strict=True)],
            "inside": [_plain(*pair) for pair in zip(inside, graph.divided.inside, strict=True)],
            "units": units,
            "channels": channels_of(block),
        },
        "spacing_mm": _span(spacings),
    }
    return found | dict(_of_stage(graph, stage, block))


def training(stage: Stage, lines: Iterable[Mapping[str, Any]], kept: Criterion | None) -> dict[str, Any]:
    """How many epochs a stage was trained for, and which one its weights are of; nothing of one without epochs.

    Parameters
    ----------
    lines:
        Of ``metrics.jsonl``.
    kept:
        What ``keep_best`` goes by, if the stage has it.
    """
    own = [line for line in lines if line["stage"] == stage.name]
    if not own:
        return {}
    found: dict[str, Any] = {"epochs": len(own), "epochs_planned": stage.epochs}
    if kept is not None and (best := kept.best_of(own)) is not None:
        found |= {"epoch_kept": best["epoch"], "kept_by": kept.key}
    return found


def _steps(graph: Graph) -> Sequence[Any]:
    return [*graph.divided.before, *graph.divided.inside]


def _plain(block: Block, step: Any) -> dict[str, Any]:
    """A step as a recipe has it, with its default arguments filled in if it is a data class."""
    own = asdict(step) if is_dataclass(step) and not isinstance(step, type) else dict(block.arguments)
    return {"use": block.name, **own}


def _given(name: str, units: str, prepared: bool) -> str:
    if name != "image":
        return f"the field '{name}' of each slice"
    values = "HU" if units == "HU" else "the images' own units"
    return "slices, after the steps in preparation.before" if prepared else f"slices, in {values}"


def _said(name: str, stage: Stage, graph: Graph) -> str:
    of = OF["volume" if stage.unit == "volume" else "slice"]
    text = HOLDS.get(name, f"'{name}' {of}").format(of=of)
    if name in RESTORED and graph.divided.before:
        text += ", on the grid of 'image': preparation.before has to be undone"
    return text


def _of_stage(graph: Graph, stage: Stage, block: Any) -> Iterator[tuple[str, Any]]:
    """What only some stages have."""
    objective = graph.objective
    if block.classes is not None:
        yield "mask_classes", list(block.classes.names)
        yield "mask_classes_overlap", block.classes.overlapping
    elif {"probability", "mask_probability"} & {*graph.outputs}:
        yield "threshold", DEFAULT.threshold
    labels = getattr(block, "labels", None)
    if labels is not None and len(labels.names):
        yield "label_classes", list(labels.names)
    heads = [head for head in getattr(objective, "heads", {}).values() if getattr(head, "unit", "")]
    if "value" in graph.outputs:
        yield "unit", heads[0].unit if heads else "that of the training labels"
    if graph.tile is not None:
        yield "tiles", graph.tile


def _span(spacings: Sequence[Sequence[float]]) -> dict[str, list[float]] | str:
    """The smallest and the largest distance along each axis."""
    known = np.array([one for one in spacings if np.isfinite(one).all()])
    if not len(known):
        return "not known"
    low, high = known.min(0).round(4).tolist(), known.max(0).round(4).tolist()
    names = ("from slice to slice", "down a column", "along a row")
    return {name: [a, b] for name, a, b in zip(names, low, high, strict=True)}
