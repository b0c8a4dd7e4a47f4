"""``medkit export``: a finished run's network as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from medkit.cli.components import load_files
from medkit.cli.options import AllowGaps, Field, PluginFile, RunDir, UnitsSaid, check_run, fields_of
from medkit.cli.output import show_json

if TYPE_CHECKING:
    from medkit.data.volume import Units
    from medkit.runs.export_formats import Format


def export(
    folder: RunDir,
    output: Annotated[Path, typer.Option("--output", help="New file: MODEL.onnx, or MODEL.pt2 for torch.")],
    stage: Annotated[str | None, typer.Option("--stage", help="Default: the last stage that is no variant.")] = None,
    format: Annotated[
        str | None, typer.Option("--format", metavar="onnx|torch", help="Default: by the name of OUTPUT.")
    ] = None,
    opset: Annotated[int, typer.Option("--opset", min=18, help="Version of ONNX's operators.")] = 18,
    slices: Annotated[
        int,
        typer.Option("--slices", min=1, help="Slices that the file is checked on; whole volumes where it takes such."),
    ] = 16,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="Largest absolute difference from the run's own numbers.")
    ] = 1e-4,
    input: Annotated[
        list[str] | None, typer.Option("--input", metavar="IMAGE", help="Check on this image, not on the run's cases.")
    ] = None,
    field: Field = None,
    allow_gaps: AllowGaps = False,
    units: UnitsSaid = None,
    plugin: PluginFile = None,
) -> None:
    """Write a finished run's network as ONNX, or in torch's own form, for programs without medkit.

    The end of the preparation is inside, as far as it is arithmetic on tensors. MODEL.json beside it says the rest:
    what comes in and out, the steps before, threshold, classes, unit, provenance. MODEL.md is a model card. The file is
    run on cases of the run before it gets its name: if its numbers are others, nothing is written.

    Example: medkit export runs/first --output model.onnx

    Example: medkit export runs/first --stage pretext --output model.pt2 --slices 64
    """
    check_run(folder)
    from medkit.front import export as apply
    from medkit.runs.export import ExportSettings
    from medkit.runs.reading import Reading

    load_files(plugin)
    reading = Reading(fields_of(field), allow_gaps, cast("Units | None", units))
    settings = ExportSettings(cast("Format | None", format), opset, slices, tolerance)
    show_json(apply(folder, output, stage=stage, settings=settings, images=input or (), reading=reading))
