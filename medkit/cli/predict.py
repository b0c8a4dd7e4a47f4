"""``medkit predict`` and ``medkit explain``: a finished run applied to an image."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from medkit.cli.components import load_files
from medkit.cli.options import (
    AllowGaps,
    Device,
    Field,
    Inputs,
    MendBy,
    PluginFile,
    RunDir,
    UnitsSaid,
    check_run,
    fields_of,
)
from medkit.cli.output import show_json
from medkit.errors import InputError, RunError

if TYPE_CHECKING:
    from medkit.data.volume import Units
    from medkit.runs.predictor import Format


def predict(
    folder: RunDir,
    input: Inputs,
    output: Annotated[
        Path, typer.Option("--output", help="New folder (DICOM), .nii.gz file, or .json file for numbers alone.")
    ],
    stage: Annotated[str | None, typer.Option("--stage", help="Default: the last stage that is no variant.")] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="dicom|dicom-seg|nifti", help="Default: by the name of OUTPUT, or the input's."
        ),
    ] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, max=1, help="Probability above which a voxel is positive (masks).")
    ] = 0.5,
    resample: Annotated[
        bool, typer.Option("--resample", help="NIfTI of uneven or tilted DICOM slices: write an even grid.")
    ] = False,
    tile: Annotated[
        int | None, typer.Option("--tile", min=1, help="Denoisers: side in pixels of tiles; default: the recipe's.")
    ] = None,
    overlap: Annotated[
        float | None, typer.Option("--overlap", min=0, max=1, help="Share of a tile that the next one covers again.")
    ] = None,
    field: Field = None,
    allow_gaps: AllowGaps = False,
    units: UnitsSaid = None,
    mend: MendBy = None,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Many images: processes of one thread each; default: this one.")
    ] = 1,
    device: Device = None,
    plugin: PluginFile = None,
) -> None:
    """Apply a finished run to an image, or to many; masks and images are written on the image's own grid.

    A DICOM folder gives a new DICOM series, or NIfTI if OUTPUT ends in .nii or .nii.gz; NIfTI gives NIfTI. Volumes,
    probabilities, and what the network was trained on and with go to prediction.json beside it. Slices at varying
    distances or with a gantry tilt are no NIfTI: name a folder, or give --resample.

    A manifest, or a folder of several series, studies or files, gives a folder of one folder a case. Called again it
    goes on: what is there is kept. A case that fails costs only itself, and the exit code is 1.

    Example: medkit predict runs/first --input scans/0001 --output masks/0001

    Example: medkit predict runs/first --input cases.csv --output masks --jobs 4
    """
    check_run(folder)
    from medkit.data.inputs import is_one
    from medkit.data.mend import named
    from medkit.runs.predict import PredictSettings
    from medkit.runs.predict import predict as apply
    from medkit.runs.reading import Reading

    load_files(plugin)
    reading = Reading(fields_of(field), allow_gaps, cast("Units | None", units), named(mend or ()))
    settings = PredictSettings(threshold, resample, tile, overlap, _format(format))
    if not all(map(is_one, input)):
        if len(input) > 1:
            raise InputError(f"{len(input)} images of one case are given, and one is many", "--input", "give it alone")
        _predict_many(
            folder, input[0], output, stage=stage, reading=reading, settings=settings, device=device, jobs=jobs
        )
        return
    if jobs > 1:
        raise InputError(
            "one image is predicted by this process alone", "--jobs", "leave it out: it is for many images"
        )
    found = apply(folder, input, output, stage=stage, reading=reading, settings=settings, device=device)
    if found["seen_in_training"] is True:
        print("note: this image or its patient was seen in training: the result is no test", file=sys.stderr)
    for note in [*found["notices"], *([found["resampled"]["how"]] if "resampled" in found else [])]:
        print(f"note: {note}", file=sys.stderr)
    show_json(found)


def _predict_many(folder: Path, input: Path, output: Path, **options: Any) -> None:
    from medkit.runs.predict_many import predict_many

    found = predict_many(folder, input, output, **options)
    if found.seen:
        print(f"note: {len(found.seen)} images or their patients were seen in training: no test", file=sys.stderr)
    for note in found.notices:
        print(f"note: {note}", file=sys.stderr)
    show_json(found.json())
    if found.failed:
        count = len(found.failed)
        what = (
            f"{count} {'case was' if count == 1 else 'cases were'} not predicted (told above, and in predictions.csv)"
        )
        raise RunError(what, str(output), "call it again: what is there is kept")


def _format(name: str | None) -> Format | None:
    if name not in (None, "dicom", "dicom-seg", "nifti"):
        raise InputError(f"'{name}' is no format of results", "--format", "one of dicom, dicom-seg, nifti")
    return cast("Format | None", name)


def explain(
    folder: RunDir,
    input: Inputs,
    output: Annotated[Path, typer.Option("--output", help="New folder for the maps and explanation.json.")],
    stage: Annotated[
        str | None, typer.Option("--stage", help="Default: the last one with heads or an operator.")
    ] = None,
    head: Annotated[str | None, typer.Option("--head", help="Default: the first that gives a number or class.")] = None,
    target: Annotated[
        str | None, typer.Option("--class", metavar="NAME|NUMBER|all", help="Class to explain; default: the likeliest.")
    ] = None,
    against: Annotated[
        bool, typer.Option("--against", help="Grad-CAM of what lowers the score, where what raises it is empty.")
    ] = False,
    field: Field = None,
    allow_gaps: AllowGaps = False,
    units: UnitsSaid = None,
    mend: MendBy = None,
    device: Device = None,
    plugin: PluginFile = None,
) -> None:
    """Show where a finished run's network looks in an image: activation and Grad-CAM of every slice, as PNG.

    Of a value, red raises and blue lowers it. Of a stage that judges a volume as a whole, maps of all slices share a
    scale, and explanation.json says what each slice adds.

    Example: medkit explain runs/first --input hand.png --output maps --field sex=1
    """
    check_run(folder)
    from medkit.data.mend import named
    from medkit.runs.explain import Question
    from medkit.runs.explain import explain as apply
    from medkit.runs.reading import Reading

    load_files(plugin)
    reading = Reading(fields_of(field), allow_gaps, cast("Units | None", units), named(mend or ()))
    question = Question(head, int(target) if target is not None and target.isdecimal() else target, against)
    found = apply(folder, input, output, stage=stage, reading=reading, question=question, device=device)
    for note in [*found["notices"], *([found["note"]] if "note" in found else [])]:
        print(f"note: {note}", file=sys.stderr)
    show_json(found)
