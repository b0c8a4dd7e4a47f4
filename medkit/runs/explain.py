"""Where a network looked: activation and Grad-CAM over the images it was given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from medkit.data.collate import whole
from medkit.data.dataset import doubts_told, input_case
from medkit.data.whole import whole_folder
from medkit.engine.runtime import Runtime
from medkit.errors import InputError
from medkit.evaluation.maps import channel_mean, enlarged, stretched
from medkit.recipe import Recipe, Stage
from medkit.runs.explain_maps import Explained, OfSlices, OfVolume, OfWindows
from medkit.runs.folder import RunFolder
from medkit.runs.inference import check_fields, prepared
from medkit.runs.ledgers import recorded_ledger, seen_in_training
from medkit.runs.origin import SLICES, inputs_named, origin
from medkit.runs.reading import Images, Reading, paths_of
from medkit.runs.workbench import Workbench

OVER = 0.45  # share of the map's colour in an overlay


@dataclass(frozen=True)
class Question:
    """What to explain.

    Parameters
    ----------
    head:
        Which head; default: the first that gives a number or class for an image, else the first that gives a mask.
    target:
        The class that Grad-CAM explains, by its name or number, or ``all``; default: the most likely one of each slice,
        or of the volume.
    against:
        Let Grad-CAM show what lowers the score instead: the evidence against the class.
    """

    head: str | None = None
    target: int | str | None = None
    against: bool = False


Asked = OfSlices | OfVolume | OfWindows
PLAIN = Reading()
LIKELIEST = Question()


def explain(
    run: str | Path,
    input: Images,
    output: str | Path,
    *,
    stage: str | None = None,
    reading: Reading = PLAIN,
    question: Question = LIKELIEST,
    device: str | None = None,
) -> dict[str, Any]:
    """Write what a stage says about an image, and where its encoder looked in each slice, into a new folder.

    For every slice: ``SLICE.activation.png``, the mean over channels of the encoder's deepest map after a sigmoid, and
    ``SLICE.grad_cam.png``, laid over the image as the network saw it (dark to bright, never inverted). With several
    classes there is a ``SLICE.grad_cam.NUMBER.png`` for each.

    A head's Grad-CAM is stretched to its own range in each slice. An operator's covers the volume: what each place of
    each slice adds to what is said of the whole, all slices on one scale, with the sum of each (``adds``); so does that
    of a head that sees volumes in windows, where each place adds to its own windows. For a value it has no rectifier,
    since what lowers a value is as much a part of it as what raises it: red raises, blue lowers.

    ``explanation.json`` holds the numbers, where they come from, and in which slices Grad-CAM is empty: nothing there
    raises the score, and the map shows one colour.

    Parameters
    ----------
    run:
        A run folder.
    input:
        DICOM folder or file, NIfTI or PNG; several where the run's cases have several images, in their order.
    output:
        A new folder.
    stage:
        Default: the last stage with heads or an operator that is not a variant.
    reading:
        How the image is read, and what is known about it.
    question:
        Which head and class, and whether for or against it.

    Raises
    ------
    InputError
        if the input cannot be read, ``output`` exists, or there is nothing to explain.
    """
    folder = RunFolder.open(Path(run))
    recipe = folder.recipe()
    runtime = Runtime.start(device=device)
    bench = Workbench(recipe, runtime, folder)
    chosen = _stage(recipe, stage)
    case = input_case(reading.fields)
    with whole_folder(Path(output)) as new:  # fails at once if the output exists
        record = reading.record(input)
        volume = record.image
        sample = prepared(recipe, chosen, record, case)
        notes = [note for one in (volume, *record.channels) for note in one.notes]
        notes += doubts_told(sample, volume.place)
        objective = bench.trained(chosen).eval()
        check_fields(reading.fields, objective)
        batch = whole(sample, tuple(case.fields))
        batch = {k: v.to(runtime.device) if isinstance(v, Tensor) else v for k, v in batch.items()}
        asked = _asked(objective, chosen, batch, question)
        against = -1 if question.against else 1
        pictures = Pictures(new, sample.shown, asked.subject.signed)
        each = [pictures.keep(one, against) for one in asked.explained(question.target)]
        empty = pictures.write(one_scale=asked.whole)
        summary = {**origin(folder, recipe, chosen, objective.parts()), **inputs_named(record, paths_of(input))}
        summary["seen_in_training"] = seen_in_training(recorded_ledger(folder, chosen.name), volume)
        summary |= {"head": asked.subject.name, "grad_cam": _meaning(asked, question)}
        told = {str(asked.subject.told(k)): found for k, found in empty.items() if k is not None}
        all_empty = sorted({z for found in empty.values() for z in found})
        summary |= {"empty_grad_cam": told if question.target == "all" and told else all_empty}
        summary |= _about_empty(all_empty, asked, question)
        slices = []
        for z, one in enumerate(each):
            explained = [asked.subject.told(k) for k in one.maps if k is not None]
            about = {"explained": explained[0] if len(explained) == 1 else explained} if explained else {}
            slices.append({"slice": z, **one.numbers, **about})
        summary |= {} if isinstance(asked, OfSlices) else {"volume": asked.numbers}
        summary |= {"slices": slices, "slices_are": SLICES} | ({"input_notes": notes} if notes else {})
        (new / "explanation.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return summary


def _asked(objective: Any, stage: Stage, batch: dict[str, Any], question: Question) -> Asked:
    asked: Asked
    if hasattr(objective, "in_windows"):
        asked = OfWindows(objective, stage.name, batch, question.head)
    elif hasattr(objective, "operator"):
        if question.head is not None:
            raise InputError(f"stage '{stage.name}' has an operator and no heads", "--head", "leave it out")
        asked = OfVolume(objective, batch)
    else:
        asked = OfSlices(objective, stage.name, batch, question.head)
    if question.against and asked.subject.signed:
        raise InputError("a map of a value shows what lowers it too, in blue", "--against", "leave it out")
    return asked


def _meaning(asked: Asked, question: Question) -> str:
    if asked.subject.signed:
        return "red raises the value, blue lowers it"
    return "what lowers the score" if question.against else "what raises the score"


def _about_empty(empty: Sequence[int], asked: Asked, question: Question) -> dict[str, str]:
    """What an empty map means, and where to look instead."""
    if not empty:
        return {}
    start = f"Grad-CAM is empty in {len(empty)} slices: nothing there"
    if asked.subject.signed:
        return {"note": f"{start} changes the value"}
    if asked.subject.kind == "mask_probability":
        return {"note": f"{start} is predicted to be in the mask, or it raises no score"}
    what, other = ("lowers", "without --against") if question.against else ("raises", "with --against")
    return {"note": f"{start} {what} the score; look {other}"}


def _stage(recipe: Recipe, name: str | None) -> Stage:
    if name is not None:
        return recipe.stage(name)
    for stage in reversed(recipe.stages):
        arguments = stage.objective.arguments
        if "@" not in stage.name and (arguments.get("heads") or arguments.get("operator")):
            return stage
    what = "no stage of this run has heads or an operator, so there is nothing to explain"
    raise InputError(what, hint="explain a run that classifies, segments or estimates numbers")


class Pictures:
    """The pictures of an explanation."""

    def __init__(self, folder: Path, shown: np.ndarray, signed: bool) -> None:
        self.folder, self.shown, self.signed = folder, shown, signed
        self.kept: list[tuple[Tensor, dict[int | None, Tensor]]] = []

    def keep(self, one: Explained, sign: int) -> Explained:
        """Keep a slice's maps at their own small size; scales are known once all are there."""
        self.kept.append((one.activation, {number: sign * each for number, each in one.maps.items()}))
        return one

    def write(self, one_scale: bool) -> dict[int | None, list[int]]:
        """Write all; returns the slices whose map is empty, by class.

        Parameters
        ----------
        one_scale:
            All slices share one scale, that of the volume.
        """
        empty: dict[int | None, list[int]] = {}
        most: dict[int | None, float] = {}
        maps: list[dict[int | None, np.ndarray]] = []
        for z, (activation, each) in enumerate(self.kept):
            size = self.shown[z].shape
            _write(self.folder / f"{z:04d}.activation.png", _overlay(self.shown[z], channel_mean(activation, size)[0]))
            maps.append({number: self._at_size(one, size) for number, one in each.items()})
            for number, one in maps[-1].items():
                empty.setdefault(number, [])
                empty[number] += [] if one.any() else [z]
                most[number] = max(most.get(number, 0.0), float(np.abs(one).max()))
        for z, found in enumerate(maps):
            for number, one in found.items():
                scale = most[number] if one_scale else float(np.abs(one).max())
                name = f"{z:04d}.grad_cam.png" if len(found) == 1 else f"{z:04d}.grad_cam.{number}.png"
                _write(self.folder / name, self._drawn(self.shown[z], one, scale, one_scale))
        return empty

    def _at_size(self, small: Tensor, size: tuple[int, ...]) -> np.ndarray:
        found: np.ndarray = enlarged(small if self.signed else torch.relu(small), size)[0].cpu().numpy()
        return found

    def _drawn(self, image: np.ndarray, values: np.ndarray, most: float, one_scale: bool) -> np.ndarray:
        if self.signed:
            return _two_colours(image, values / most if most else values)
        if one_scale:
            return _overlay(image, values, (0.0, most))
        return _overlay(image, stretched(torch.from_numpy(values)[None])[0])


def _overlay(image: np.ndarray, values: np.ndarray, span: tuple[float, float] | None = None) -> np.ndarray:
    """(H,W,3) bytes: a grey image under a map in colours, from the smallest to the largest value of each, or from the
    ends of ``span``."""
    colours = cv2.applyColorMap(_bytes(values, span), cv2.COLORMAP_INFERNO)
    return cv2.addWeighted(colours, OVER, cv2.cvtColor(_bytes(image), cv2.COLOR_GRAY2BGR), 1 - OVER, 0)


def _two_colours(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(H,W,3) bytes: a grey image under a map from blue (-1) over nothing (0) to red (1)."""
    grey = cv2.cvtColor(_bytes(image), cv2.COLOR_GRAY2BGR).astype(np.float32)
    colour = np.zeros_like(grey)
    colour[..., 2], colour[..., 0] = 255 * (values > 0), 255 * (values < 0)
    share = 2 * OVER * np.clip(np.abs(values), 0, 1)[..., None]
    return np.rint(grey * (1 - share) + colour * share).astype(np.uint8)


def _bytes(array: np.ndarray, span: tuple[float, float] | None = None) -> np.ndarray:
    low, high = span or (float(array.min()), float(array.max()))
    return np.rint((array - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)


def _write(path: Path, picture: np.ndarray) -> None:
    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
