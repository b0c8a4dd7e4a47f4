"""``medkit convert-weights``: published weights of 3-D encoders, as files that recipes take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medkit.cli.components import load_files
from medkit.cli.options import PluginFile
from medkit.cli.output import show_json


def convert_weights(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file written by torch.save (.pth, .pt, .ckpt).")],
    of: Annotated[
        str, typer.Option("--of", metavar="NAME", help="Whose: openmind, nnunet, med3d, kinetics or genesis.")
    ],
    output: Annotated[Path, typer.Option("--output", metavar="FILE.safetensors", help="New file.")],
    prefix: Annotated[
        str | None, typer.Option("--prefix", help="What comes before the encoder's names in the file; default: found.")
    ] = None,
    plugin: PluginFile = None,
) -> None:
    """Convert the encoder in published weights of 3-D networks, and say how a recipe uses it.

    Only tensors and plain values are read, and nothing in the file is run; nothing is downloaded. Stages, widths and
    kernels are found from the tensors' shapes. Any part of the encoder missing from the file is an error; a decoder, a
    classifier and copies are left out. docs/volumes.md has a table of what can be converted, and which images the
    weights were trained on.

    Example: medkit convert-weights resnet_18.pth --of med3d --output med3d18.safetensors
    """
    from medkit.runs.foreign_weights import convert_weights as apply

    load_files(plugin)
    show_json(apply(path, of, output, prefix))
