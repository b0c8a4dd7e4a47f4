"""Where a network looked: activation and Grad-CAM over the images it was given."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from medkit.data.dataset import doubts_told, input_case
from medkit.data.loader import whole
from medkit.data.whole import whole_folder
from medkit.engine.runtime import Runtime
from medkit.errors import InputError, did_you_mean
from medkit.evaluation.maps import activation, grad_cam
from medkit.protocols import Batch, PretextHead, offered
from medkit.recipe import Recipe, Stage
from medkit.runs.folder import RunFolder
from medkit.runs.inference import check_fields, prepared
from medkit.runs.origin import input_named, origin, patient_of
from medkit.runs.reading import Reading
from medkit.runs.seen import recorded_ledger, seen_in_training
from medkit.runs.workbench import Workbench

NUMBERS = ("class_probability", "probability", "value")
OVER = 0.45  # share of the map's colour in an overlay


@dataclass(frozen=True)
class Question:
    """What is to be explained.

    Parameters
    ----------
    head:
        Which head; default: the first that gives one number or class an image.
    target:
        The class that Grad-CAM explains; default: the likeliest one of each slice.
    against:
        Let Grad-CAM show what lowers the score instead: what speaks against the class, or for a smaller value.
    """

    head: str | None = None
    target: int | None = None
    against: bool = False


PLAIN = Reading()
LIKELIEST = Question()


def explain(
    run: str | Path,
    input: str | Path,
    output: str | Path,
    *,
    stage: str | None = None,
    reading: Reading = PLAIN,
    question: Question = LIKELIEST,
    device: str | None = None,
) -> dict[str, Any]:
    """Write what a head says about each slice of an image, and where the encoder looked, into a new folder.

    For every slice: ``SLICE.activation.png``, the mean over channels of the encoder's deepest map after a sigmoid, and
    ``SLICE.grad_cam.png``, both stretched to their own range (dark to bright, never inverted) and laid over the image
    as the network saw it. ``explanation.json`` holds the head's numbers, where they come from, and in which slices
    Grad-CAM is empty: nothing there raises the score, and the map shows one colour.

    Parameters
    ----------
    run:
        A run folder.
    input:
        DICOM folder or file, NIfTI or PNG.
    output:
        A new folder.
    stage:
        Default: the last stage with a head that gives one number or class an image.
    reading:
        How the image is read, and what is known of it.
    question:
        Which head and class, and whether for or against it.

    Raises
    ------
    InputError
        if the input cannot be read, ``output`` exists, or no head gives one number or class an image.
    """
    folder = RunFolder.open(Path(run))
    recipe = folder.recipe()
    runtime = Runtime.start(device=device)
    bench = Workbench(recipe, runtime, folder)
    chosen = _stage(recipe, stage)
    case, against = input_case(reading.fields), question.against
    with whole_folder(Path(output)) as new:  # says at once if the output exists
        volume = reading.volume(input)
        sample = prepared(recipe, chosen, volume, case)
        notes = [*volume.notes, *doubts_told(sample, volume.place)]
        objective = bench.trained(chosen).eval()
        check_fields(reading.fields, objective)
        batch = whole(sample, tuple(case.fields))
        batch = {k: v.to(runtime.device) if isinstance(v, Tensor) else v for k, v in batch.items()}
        name, part = _head(objective, chosen, batch, question.head)
        slices, empty = [], []
        for z in range(len(sample.image)):
            image, given = batch["image"][z : z + 1], _given(part, batch)
            numbers, score = _asked(objective, part, image, given, question.target)
            asked = partial(_negative, score) if against else score
            seen, cam = sample.shown[z], grad_cam(objective.encoder, asked, image)[0]
            _write(new / f"{z:04d}.activation.png", _overlay(seen, activation(objective.encoder, image)[0]))
            _write(new / f"{z:04d}.grad_cam.png", _overlay(seen, cam))
            slices.append({"slice": z, **numbers})
            if not cam.any():
                empty.append(z)
        summary = {**origin(folder, recipe, chosen, objective.parts()), "input": input_named(volume, Path(input))}
        summary["seen_in_training"] = seen_in_training(recorded_ledger(folder, chosen.name), volume, patient_of(volume))
        summary |= {"head": name, "grad_cam": "what lowers the score" if against else "what raises the score"}
        summary |= {"empty_grad_cam": empty, **_about_empty(empty, against), "slices": slices}
        summary |= {"input_notes": notes} if notes else {}
        (new / "explanation.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return summary


def _negative(score: Callable[[list[Tensor]], Tensor], features: list[Tensor]) -> Tensor:
    return -score(features)


def _about_empty(empty: list[int], against: bool) -> dict[str, str]:
    """What an empty map means, and where to look instead."""
    if not empty:
        return {}
    what, other = ("lowers", "without --against") if against else ("raises", "with --against")
    return {"note": f"Grad-CAM is empty in {len(empty)} slices: nothing there {what} the score; look {other}"}


def _stage(recipe: Recipe, name: str | None) -> Stage:
    if name is not None:
        return recipe.stage(name)
    for stage in reversed(recipe.stages):
        if "@" not in stage.name and stage.objective.arguments.get("heads"):
            return stage
    raise InputError("no stage of this run has heads, so there is nothing to explain")


def _head(objective: Any, stage: Stage, batch: Batch, name: str | None) -> tuple[str, Any]:
    """The head to ask, with its name: one that predicts numbers or classes."""
    heads = dict(getattr(objective, "heads", {}).items())
    if name is not None and name not in heads:
        hint = did_you_mean(name, heads) or f"heads: {', '.join(heads)}"
        raise InputError(f"stage '{stage.name}' has no head '{name}'", hint=hint)
    with torch.no_grad():
        features = objective.encoder(batch["image"][:1])
        for other, head in heads.items():
            if not hasattr(head, "predict"):
                continue
            if name in (None, other) and set(_predicted(head, head(features, **_given(head, batch)))) & {*NUMBERS}:
                return other, head
    raise InputError(f"stage '{stage.name}' has no head that gives one number or class an image")


def _predicted(head: Any, output: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = offered(PretextHead, head, "predict")(output)
    return found


def _given(head: Any, batch: Batch) -> dict[str, Tensor]:
    """The fields a head needs, for one slice."""
    needs = getattr(head, "needs", ())
    missing = [name for name in needs if name not in batch]
    if missing:
        raise InputError(f"the head needs '{missing[0]}'", "--field", f"--field {missing[0]}=VALUE")
    return {name: batch[name] for name in needs}


def _asked(
    objective: Any, head: Any, image: Tensor, given: Mapping[str, Tensor], target: int | None
) -> tuple[dict[str, Any], Callable[[list[Tensor]], Tensor]]:
    """What the head says about one image, and the output whose gradient Grad-CAM takes."""
    with torch.no_grad():
        output = head(objective.encoder(image), **given)
        found = {k: v.float().cpu().numpy()[0] for k, v in _predicted(head, output).items() if k in NUMBERS}
    numbers: dict[str, Any] = {k: round(float(v), 6) for k, v in found.items() if np.ndim(v) == 0}
    if "class_probability" not in found:
        return numbers, lambda features: head(features, **given)
    probabilities = found["class_probability"]
    number = int(np.argmax(probabilities)) if target is None else target
    if not 0 <= number < len(probabilities):
        raise InputError(f"there is no class {number}", "--class", f"classes: 0 to {len(probabilities) - 1}")
    numbers |= {"class": int(np.argmax(probabilities)), "explained": number}
    numbers["class_probability"] = [round(float(p), 6) for p in probabilities]
    return numbers, lambda features: head(features, **given)[..., number]


def _overlay(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(H,W,3) bytes: a grey image under a map in colours, both from their own smallest to largest value."""
    grey, value = (_bytes(array) for array in (image, values))
    colours = cv2.applyColorMap(value, cv2.COLORMAP_INFERNO)
    return cv2.addWeighted(colours, OVER, cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), 1 - OVER, 0)


def _bytes(array: np.ndarray) -> np.ndarray:
    low, high = float(array.min()), float(array.max())
    return np.rint((array - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)


def _write(path: Path, picture: np.ndarray) -> None:
    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
