"""Apply a finished run to a new image and write the result on that image's own grid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from medkit.data.dataset import Sample, prepare_record
from medkit.data.loader import whole
from medkit.engine.runtime import Runtime
from medkit.errors import InputError
from medkit.protocols import Case, Record
from medkit.recipe import Recipe, Stage, load_recipe
from medkit.runs.folder import RunFolder, write_atomically
from medkit.runs.ready import ready
from medkit.runs.workbench import Workbench


def predict(
    run: str | Path,
    input: str | Path,
    output: str | Path,
    *,
    stage: str | None = None,
    threshold: float = 0.5,
    device: str | None = None,
) -> dict[str, Any]:
    """Predict one DICOM series or NIfTI image and write masks or images of its geometry.

    A DICOM folder gives a DICOM series in the folder ``output``; a NIfTI file gives the NIfTI file ``output``. A
    summary goes to ``prediction.json`` beside it, with volumes in mL.

    Parameters
    ----------
    run:
        A run folder.
    stage:
        Which stage's model; default: the recipe's last one that is no variant.
    threshold:
        Probability above which a voxel is positive.

    Raises
    ------
    InputError
        if the input cannot be read, or ``output`` exists.
    """
    from medkit.data.io import read_volume, write_like

    folder = RunFolder.open(Path(run))
    recipe = load_recipe(folder.file("recipe.yaml"))
    chosen = recipe.stage(stage) if stage else _last(recipe)
    output = Path(output)
    if output.exists():
        raise InputError("the output exists", str(output), "name a new one: nothing is overwritten")
    image = read_volume(Path(input))
    bench = Workbench(recipe, Runtime.start(device=device), folder)
    steps = [step.build() for step in recipe.data[chosen.data].prepare]
    sample = prepare_record(Record(image), Case(id="input", patient="input"), steps)
    result = _infer(bench, chosen, sample)
    summary: dict[str, Any] = {"run": Path(run).name, "stage": chosen.name}
    written = None
    if "mask_probability" in result:
        probability = sample.restore(result["mask_probability"][:, 0])
        mask = (probability > threshold).astype(np.uint8)
        written = image.like(mask)
        volume = float((mask.sum((1, 2)) * image.slice_volumes()).sum())
        summary |= {"volume_ml": round(volume / 1000, 4), "slices": np.flatnonzero(mask.any((1, 2))).tolist()}
    elif "output" in result:
        restored = sample.restore(result["output"][:, 0])
        written = image.like(_to_source_units(image.voxels, restored, sample, steps))
    for name in ("probability", "value"):
        if name in result:
            values = np.asarray(result[name], np.float64).reshape(-1)
            summary[name] = float(values[0]) if len(values) == 1 else [round(float(v), 5) for v in values]
    if written is not None:
        kind: Literal["mask", "image"] = "mask" if "mask_probability" in result else "image"
        write_like(written, output, kind=kind, description=f"medkit {recipe.name} {chosen.name}")
        summary["written"] = str(output)
        beside = output / "prediction.json" if output.is_dir() else output.with_name(output.name + ".json")
    else:
        output.mkdir(parents=True)
        beside = output / "prediction.json"
    write_atomically(beside, (json.dumps(summary, indent=1) + "\n").encode())
    return summary


def _last(recipe: Recipe) -> Stage:
    return next(stage for stage in reversed(recipe.stages) if "@" not in stage.name)


def _infer(bench: Workbench, stage: Stage, sample: Sample) -> dict[str, np.ndarray]:
    objective = bench.trained(stage).eval()
    batch = whole(sample)
    batch = {k: v.to(bench.runtime.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    objective = ready(objective, batch, bench.runtime.device)
    with torch.inference_mode(), bench.runtime.autocast():
        return {name: value.float().cpu().numpy() for name, value in objective.predict(batch).items()}


def _to_source_units(voxels: np.ndarray, restored: np.ndarray, sample: Sample, steps: list[Any]) -> np.ndarray:
    """Undo the window: new values inside it, the source's own outside."""
    from medkit.data.transforms import Window

    windows = [step for step in steps if isinstance(step, Window)]
    if len(windows) != 1 or len(steps) != len([s for s in steps if isinstance(s, Window) or hasattr(s, "size")]):
        raise InputError("an image can be written back only if its preparation is one window, with or without resize")
    window = windows[0]
    values = restored * (window.high - window.low) + window.low
    inside = (voxels >= window.low) & (voxels <= window.high)
    return np.where(inside, values, voxels).astype(np.float32)
