"""A trained network applied to one new image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from medkit.data.sample import Sample, prepare_record
from medkit.engine.progress import Progress
from medkit.engine.runtime import Runtime
from medkit.errors import InputError, did_you_mean
from medkit.evaluation.ready import first_slice
from medkit.protocols import Batch, Case, Record
from medkit.recipe import Recipe, Stage
from medkit.recipe.blocks import Block
from medkit.recipe.channels import images_of

Accepts = Callable[[set[str]], None]
"""Refuses, by the names of the predictions, what could not be written; called before the work is done."""


@dataclass(frozen=True)
class ImagePrediction:
    """What a stage predicts for one image.

    ``found`` has the standard predictions by name; ``mask_probability`` and ``output`` are brought back to the image's
    own grid, (D,H,W), if there are any; probabilities of classes are (K,D,H,W). ``notes`` say what is doubtful about
    the image.
    """

    found: Mapping[str, np.ndarray]
    mask_probability: np.ndarray | None = None
    output: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)


def check_fields(fields: Mapping[str, Any], objective: Any) -> None:
    """Refuse a field that nothing in an objective asks for: it would silently change nothing."""
    needs = getattr(objective, "needs", ())
    for name in fields:
        if name not in needs:
            hint = did_you_mean(name, needs) or f"fields: {', '.join(needs) or 'none'}"
            raise InputError(f"no head needs the field '{name}'", "--field", hint)


def prepared(recipe: Recipe, stage: Stage, record: Record, case: Case) -> Sample:
    """A new image, prepared like those that a stage was trained on.

    Raises
    ------
    InputError
        if each of those was made of another number of images.
    """
    block = recipe.data[stage.data]
    wanted, given = images_of(block.source), 1 + len(record.channels)
    if wanted != given:
        were = "this is only one" if given == 1 else f"these are {given}"
        what = f"stage '{stage.name}' takes {wanted} images of a case as channels, and {were}"
        raise InputError(what, record.image.place, _how_given(block.source, wanted))
    return prepare_record(record, case, [step.build() for step in block.prepare], block.classes)


def _how_given(source: Block, wanted: int) -> str:
    """How to give as many images as a case of the run's data has."""
    if wanted == 1:
        return "give one --input"
    if source.arguments.get("colour"):
        return "'medkit evaluate RUN' measures it on the colour pictures of a manifest"
    named = source.arguments.get("image")
    order = f", in the order {', '.join(map(str, named))}" if isinstance(named, list | tuple) else ""
    return f"give --input once for each{order}"


def first_predictions(objective: Any, batch: Batch, runtime: Runtime) -> dict[str, Any]:
    """The predictions of the first slice alone."""
    with torch.inference_mode(), runtime.autocast():
        return dict(objective.predict(first_slice(batch)))


def infer(
    objective: Any, batch: Batch, runtime: Runtime, progress: Progress, *, in_blocks: bool
) -> dict[str, np.ndarray]:
    """Standard predictions for one volume; ``in_blocks`` if slices do not see each other, so that progress shows."""
    depth = len(batch["image"])
    block = max(1, getattr(objective, "slices_at_once", 1)) if in_blocks else depth
    found: list[dict[str, np.ndarray]] = []
    with (
        torch.inference_mode(),
        runtime.autocast(),
        progress.task("predicting", total=depth) as advance,
    ):
        for start in range(0, depth, block):
            images = batch["image"][start : start + block]
            part = {**batch, "image": images, "lengths": torch.tensor([len(images)], device=images.device)}
            found.append({name: value.float().cpu().numpy() for name, value in objective.predict(part).items()})
            advance(start + len(images))
    if len(found) == 1:
        return found[0]
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}
