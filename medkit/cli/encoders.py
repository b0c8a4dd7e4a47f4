"""``medkit embed``: what an encoder makes of many images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from medkit.cli.components import load_files
from medkit.cli.options import Device, PluginFile
from medkit.cli.output import show_json

Encoder = Annotated[
    str,
    typer.Argument(
        metavar="ENCODER",
        help="A run folder, its weights/STAGE.encoder.safetensors, timm:MODEL (random weights), "
        "timm:MODEL@FILE.safetensors, or timm:MODEL@hub:TAG (downloaded).",
    ),
]
StageName = Annotated[
    str | None, typer.Option("--stage", help="Of a run; default: its last stage with an encoder that is no variant.")
]


def embed(
    encoder: Encoder,
    output: Annotated[Path, typer.Option("--output", metavar="FEATURES.parquet", help="New Parquet file.")],
    input: Annotated[
        Path | None, typer.Option("--input", metavar="MANIFEST|DIR", help="CSV or Parquet manifest, or images.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Instead of --input: a split of the data block.")] = None,
    stage: StageName = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Prepare images as this recipe says; default: as the run did.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="Its data block, where there are several.")] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Slices that are encoded at once.")] = 32,
    device: Device = None,
    plugin: PluginFile = None,
) -> None:
    """Write the features of images by an encoder: a row a slice, to be read by pandas, Arrow or R.

    Columns are case, patient, center, slice, label (empty where it is not known) and features, a list of numbers: the
    mean over the encoder's deepest map. A folder's cases are its NIfTI files, PNGs and folders of DICOM slices, each a
    patient of its own; a manifest is one as recipes read it (docs/data.md). Its metadata say under 'medkit' which
    encoder, weights and preparation the features come from, and how many of the patients were seen in training.
    Features are kept in the cache too, so that the same images are not encoded twice.

    Example: medkit embed runs/first --input cases.csv --output features.parquet

    Example: medkit embed timm:resnet18@resnet18.safetensors --recipe ich_seg --split internal --output features.parquet
    """
    from medkit.runs.embed import Wanted
    from medkit.runs.embed import embed as apply

    load_files(plugin)
    found = apply(encoder, output, Wanted(input, split, recipe, data, batch), stage=stage, device=device)
    for note in found["notices"]:
        print(f"note: {note}", file=sys.stderr)
    show_json(found)
