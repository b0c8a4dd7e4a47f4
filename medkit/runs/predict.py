"""Apply a finished run to a new image and write the result on that image's own grid."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medkit.data.transforms import Resize, Window
from medkit.data.volume import Volume
from medkit.engine.runtime import Runtime
from medkit.errors import InputError
from medkit.recipe import Recipe, Stage
from medkit.records import write_atomically
from medkit.runs.folder import RunFolder
from medkit.runs.origin import input_named, origin, patient_of
from medkit.runs.reading import Reading
from medkit.runs.seen import seen_in_training
from medkit.runs.trainers import trainer_of
from medkit.runs.workbench import Workbench


@dataclass(frozen=True)
class PredictSettings:
    """What is made of a prediction.

    Parameters
    ----------
    threshold:
        Probability above which a voxel is positive.
    resample:
        Write NIfTI of a DICOM series whose slices vary in distance or are sheared by a tilt, which NIfTI cannot hold,
        on an even, upright grid (:func:`medkit.data.resample.even`). ``volume_ml`` is that of the true slices.
    tile:
        Side in pixels of the overlapping tiles in which a denoiser takes a slice; default: as the recipe says.
    overlap:
        Share of a tile that its neighbour covers too, in [0, 1); default: as the recipe says.
    """

    threshold: float = 0.5
    resample: bool = False
    tile: int | None = None
    overlap: float | None = None


DEFAULT = PredictSettings()
PLAIN = Reading()


def predict(
    run: str | Path,
    input: str | Path,
    output: str | Path,
    *,
    stage: str | None = None,
    reading: Reading = PLAIN,
    settings: PredictSettings = DEFAULT,
    device: str | None = None,
) -> dict[str, Any]:
    """Predict one DICOM series or NIfTI image and write masks or images of its geometry.

    A DICOM folder gives a DICOM series in the folder ``output``; a NIfTI file gives the NIfTI file ``output``, and so
    does a DICOM folder when ``output`` ends in .nii or .nii.gz. A summary goes to ``prediction.json`` beside it, with
    volumes in mL and with what the prediction comes from: weights, version, threshold, input, and the notices of the
    run's training data. A stage that gives numbers alone writes just that, to ``output`` itself if it ends in .json,
    else into a new folder.

    A denoised image has new values where the source's lie inside the window of the run's preparation, in whole HU if
    the source has whole ones; everywhere else it keeps the source's own values exactly.

    Parameters
    ----------
    run:
        A run folder.
    stage:
        Which stage's model; default: the recipe's last one that is no variant.
    reading:
        How the image is read, and what is known of it.
    settings:
        Threshold, grid and tiles.

    Raises
    ------
    InputError
        if the input cannot be read, ``output`` exists or cannot hold the input's grid, the stage has no tiles, or its
        images cannot be brought back to the source's units.
    """
    from medkit.data.io import check_output, is_nifti_name

    folder = RunFolder.open(Path(run))
    recipe = folder.recipe()
    chosen = recipe.stage(stage) if stage else _last(recipe)
    output = Path(output)
    for path in (output, *([_beside(output, True)] if is_nifti_name(output) else [])):
        if path.exists():
            raise InputError("the output exists", str(path), "name a new one: nothing is overwritten")
    threshold, resample = settings.threshold, settings.resample
    if not 0 <= threshold <= 1:
        raise InputError(f"a probability lies in [0, 1], not {threshold}", "--threshold")
    image = reading.volume(input)
    if is_nifti_name(output):  # an image is expected: say at once what would stop it from being written
        check_output(image, output, resample=resample)
    bench = Workbench(recipe, Runtime.start(device=device), folder)
    steps = [step.build() for step in recipe.data[chosen.data].prepare]
    window = _window(steps, str(folder.path)) if chosen.unit == "patch" else None
    objective = bench.trained(chosen)
    _tile(objective, chosen, settings)
    summary = {**origin(folder, recipe, chosen, objective.parts()), "input": input_named(image, Path(input))}
    summary["seen_in_training"] = seen_in_training(folder, chosen.name, image, patient_of(image))

    def accepts(gives: set[str]) -> None:
        _check_kind(gives, chosen, image, output, resample)

    predicted = trainer_of(bench, chosen, objective).predict_image(image, reading.fields, accepts)
    probability = predicted.mask_probability
    notes = [*image.notes, *predicted.notes]
    if notes:
        summary["input_notes"] = notes
    if probability is not None:
        mask = (probability > threshold).astype(np.uint8)
        volume = float((mask.sum((1, 2)) * image.slice_volumes()).sum())
        summary |= {"threshold": threshold, "volume_ml": round(volume / 1000, 4) if image.spacing_known else None}
        summary["slices"] = np.flatnonzero(mask.any((1, 2))).tolist()
        summary |= _write(image.like(mask), output, "mask", f"mask: {recipe.name} {chosen.name}", resample)
    elif predicted.output is not None:
        window = window or _window(steps, str(folder.path))
        values = to_source_units(image.voxels, predicted.output, window)
        summary |= _write(image.like(values), output, "image", f"denoised: {recipe.name} {chosen.name}", resample)
    summary |= _numbers(predicted.found, objective)
    write_atomically(_beside(output, "written" in summary), (json.dumps(summary, indent=1) + "\n").encode())
    return summary


def _check_kind(gives: set[str], stage: Stage, image: Volume, output: Path, resample: bool) -> None:
    """Say before the whole volume goes through the network that ``output`` does not fit what comes out."""
    from medkit.data.io import check_output, is_nifti_name

    if gives & {"mask_probability", "output"}:
        if output.suffix == ".json":
            raise InputError(
                "a mask or image is no JSON", str(output), "name a new folder, or a file ending in .nii.gz"
            )
        check_output(image, output, resample=resample)
    elif is_nifti_name(output) or resample:
        what = f"stage '{stage.name}' gives {', '.join(sorted(gives)) or 'nothing'} and no image"
        raise InputError(what, str(output), "name a file ending in .json or a new folder, without --resample")


def _write(
    volume: Volume, output: Path, kind: Literal["mask", "image"], description: str, resample: bool
) -> dict[str, Any]:
    """Write the result; what the summary says of it."""
    from medkit.data.io import write_like
    from medkit.data.resample import even, resampling

    found: dict[str, Any] = {"written": str(output)}
    if resample:
        volume = even(volume, nearest=kind == "mask")
    said = resampling(volume)
    if said is not None:
        found["resampled"] = {"how": said, "spacing_mm": [round(length, 4) for length in volume.spacing]}
        if kind == "mask":
            found["resampled"]["volume_ml"] = round(float(volume.voxels.sum()) * volume.voxel_volume / 1000, 4)
    write_like(volume, output, kind=kind, description=description)
    return found


def _numbers(result: Mapping[str, np.ndarray], objective: Any) -> dict[str, Any]:
    """Probabilities and values; a value's unit where its head names one."""
    found: dict[str, Any] = {}
    for name in ("probability", "value"):
        if name in result:
            values = np.asarray(result[name], np.float64).reshape(-1)
            found[name] = float(values[0]) if len(values) == 1 else [round(float(v), 5) for v in values]
    if "value" in found:
        heads = getattr(objective, "heads", {}).values()
        found["unit"] = next((head.unit for head in heads if getattr(head, "unit", "")), "that of the training labels")
    if "class_probability" in result:
        each = np.asarray(result["class_probability"], np.float64).round(6)
        found["class_probability"] = each[0].tolist() if len(each) == 1 else each.tolist()
    return found


def _beside(output: Path, written: bool) -> Path:
    """Where the summary goes: into the written folder, beside the written file, or where there is neither."""
    if written:
        return output / "prediction.json" if output.is_dir() else output.with_name(output.name + ".json")
    if output.suffix == ".json":
        output.parent.mkdir(parents=True, exist_ok=True)
        return output
    output.mkdir(parents=True)
    return output / "prediction.json"


def _last(recipe: Recipe) -> Stage:
    return next(stage for stage in reversed(recipe.stages) if "@" not in stage.name)


def _tile(objective: Any, stage: Stage, settings: PredictSettings) -> None:
    """Have a denoiser take slices in tiles of other sizes than its recipe says."""
    tile, overlap = settings.tile, settings.overlap
    if tile is None and overlap is None:
        return
    if not hasattr(objective, "tile"):
        raise InputError(f"stage '{stage.name}' does not predict in tiles", "--tile", "only denoisers do")
    if tile is not None:
        if tile < 1:
            raise InputError(f"a tile has a side of at least one pixel, not {tile}", "--tile")
        objective.tile = tile
    if objective.tile is None:
        raise InputError("an overlap without tiles changes nothing", "--overlap", "give --tile too")
    if overlap is not None:
        objective.overlap = overlap


def _window(steps: Sequence[Any], where: str) -> Window:
    """The one window of a preparation that can be undone."""
    windows = [step for step in steps if isinstance(step, Window)]
    if len(windows) != 1 or not all(isinstance(step, Window | Resize) for step in steps):
        names = ", ".join(type(step).__name__ for step in steps) or "nothing"
        raise InputError(
            f"images prepared by {names} cannot be brought back to the source's units",
            where,
            "a denoiser's preparation is one window, with or without resize",
        )
    return windows[0]


def to_source_units(voxels: np.ndarray, restored: np.ndarray, window: Window) -> np.ndarray:
    """Undo ``window``: new values where the source's lie inside it, the source's own elsewhere; the source's type."""
    values = restored * np.float32(window.high - window.low) + np.float32(window.low)
    if voxels.dtype.kind in "iu" or np.array_equal(voxels, np.rint(voxels)):
        values = np.rint(values)
    inside = (voxels >= window.low) & (voxels <= window.high)
    return np.where(inside, values, voxels).astype(voxels.dtype)
