"""Options of commands that read an image."""

from __future__ import annotations

from typing import Annotated

import typer

AllowGaps = Annotated[
    bool,
    typer.Option("--allow-gaps", help="Take a DICOM series with missing, interleaved or misplaced slices as it is."),
]
UnitsSaid = Annotated[
    str | None,
    typer.Option("--units", metavar="HU|stored", help="What the voxels are in, where the file does not tell."),
]
