"""``medkit embed`` and ``medkit card``: an encoder's features of many images, and what they are worth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from medkit.cli.components import load_files
from medkit.cli.options import Device, Json, PluginFile
from medkit.cli.output import show_json
from medkit.errors import InputError

Encoder = Annotated[
    str,
    typer.Argument(
        metavar="ENCODER",
        help="A run folder, its weights/STAGE.encoder.safetensors, timm:MODEL (random weights), "
        "timm:MODEL@FILE.safetensors, or timm:MODEL@hub:TAG (downloaded).",
    ),
]
StageName = Annotated[
    str | None, typer.Option("--stage", help="Of a run; default: its last stage with an encoder that is not a variant.")
]


def embed(
    encoder: Encoder,
    output: Annotated[Path, typer.Option("--output", metavar="FEATURES.parquet", help="New Parquet file.")],
    input: Annotated[
        Path | None, typer.Option("--input", metavar="MANIFEST|DIR", help="CSV or Parquet manifest, or images.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="In place of --input: a split of the data.")] = None,
    stage: StageName = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Prepare images as this recipe says; default: as the run did.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="Its data block, if there are several.")] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Slices or windows encoded at a time.")] = 32,
    window: Annotated[
        str | None,
        typer.Option(
            "--window", metavar="D,H,W", help="For an encoder of volumes; default: the patches it was trained on."
        ),
    ] = None,
    device: Device = None,
    plugin: PluginFile = None,
) -> None:
    """Write an encoder's features of images: one row per slice, or per volume, for pandas, Arrow or R.

    Columns are case, patient, center, slice, label (empty where it is not known) and features, a list of numbers: the
    mean over the encoder's deepest map. A folder's cases are its NIfTI files, PNGs and folders of DICOM slices, each a
    separate patient; a manifest is one as recipes read it (docs/data.md). The file's metadata say under 'medkit' which
    encoder, weights and preparation the features come from, and how many of the patients were seen in training.
    Features are also kept in the cache, so that the same images are not encoded twice.

    Example: medkit embed runs/first --input cases.csv --output features.parquet

    Example: medkit embed timm:resnet18@resnet18.safetensors --recipe ich_seg --split internal --output features.parquet
    """
    from medkit.runs.embed import EmbedRequest
    from medkit.runs.embed import embed as apply

    load_files(plugin)
    found = apply(
        encoder, output, EmbedRequest(input, split, recipe, data, batch, _sides(window)), stage=stage, device=device
    )
    for note in found["notices"]:
        print(f"note: {note}", file=sys.stderr)
    show_json(found)


def _sides(text: str | None) -> tuple[int, int, int] | None:
    """``D,H,W`` as three numbers of voxels."""
    if text is None:
        return None
    sides = text.split(",")
    if len(sides) != 3 or not all(side.strip().isdecimal() and int(side) for side in sides):
        raise InputError(f"'{text}' is no window", "--window", "three sides in voxels, such as 16,128,128")
    depth, height, width = map(int, sides)
    return depth, height, width


def card(
    encoder: Encoder,
    on: Annotated[str, typer.Option("--on", metavar="PANEL", help="A panel's path, or 'phantoms'.")] = "phantoms",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="New folder; default cards/NAME-DATE-TIME.")
    ] = None,
    beside: Annotated[
        list[str] | None, typer.Option("--beside", metavar="ENCODER", help="Another encoder to compare features with.")
    ] = None,
    stage: StageName = None,
    json: Json = False,
    device: Device = None,
    plugin: PluginFile = None,
) -> None:
    """Judge an encoder by the tasks of a panel, alongside random encoders of the same architecture.

    The card is a page (card.html) and its numbers (card.json): k-NN, logistic and linear probes, a probe of masks, what
    more labels bring, the spread over seeds, whether the centre can be read from the features, what low doses
    cost, collapse, similarity to other encoders, speed and memory, and whom the weights have seen. Nothing but probes
    is trained. The panel 'phantoms' is made of synthetic images and takes minutes; docs/cards.md says how to write one.

    Example: medkit card runs/first --on phantoms --out cards/first

    Example: medkit card timm:resnet18@resnet18.safetensors --beside runs/first
    """
    from medkit.paths import default_folder
    from medkit.reporting.card import write_card
    from medkit.runs.card import card as judge

    load_files(plugin)
    folder = out or Path("cards") / default_folder(Path(encoder.replace(":", "-")).name).name
    if folder.exists():
        raise InputError("the output exists", str(folder), "name a new folder: nothing is overwritten")
    found = judge(encoder, on, stage=stage, beside=beside or [], device=device)
    path = write_card(folder, found)
    for note in found["notices"]:
        print(f"note: {note}", file=sys.stderr)
    if json:
        show_json(found)
    else:
        print(path)
