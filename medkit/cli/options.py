"""Options shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medkit.errors import InputError

AllowGaps = Annotated[
    bool,
    typer.Option("--allow-gaps", help="Take a DICOM series with missing, interleaved or misplaced slices as it is."),
]
UnitsSaid = Annotated[
    str | None,
    typer.Option("--units", metavar="HU|stored", help="The unit of the voxels, where the file does not say."),
]
MendBy = Annotated[
    list[str] | None,
    typer.Option(
        "--mend",
        metavar="rescale[=SLOPE,INTERCEPT]|preamble|signed",
        help="What to assume of DICOM files whose headers lack or contradict it; prediction.json says of which.",
    ),
]
Lists = Annotated[
    Path | None,
    typer.Option(
        "--lists", metavar="DIR", help="Where the lists of each series' files go; default: OUT_series next to OUT."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
PluginFile = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="FILE", help="Load a plugin under development from one Python file."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as stages.pretext.epochs=2."),
]
Device = Annotated[str | None, typer.Option("--device", help="cpu or cuda; default: cuda when there is one.")]
Devices = Annotated[int, typer.Option("--devices", min=1, help="Ranks on this machine; this command starts them.")]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", min=1, help="Processes that prepare cases; default: one per core, at most 32."),
]
Workers = Annotated[
    str | None,
    typer.Option(
        "--workers", metavar="N|auto", help="Processes that make batches, in place of the recipe's number; 0: a thread."
    ),
]
Skip = Annotated[
    list[str] | None, typer.Option("--skip", metavar="STAGE", help="Leave out a stage or variant: segment@scratch.")
]
Link = Annotated[
    bool | None,
    typer.Option(
        "--link/--fresh",
        help="Take stages that another run has trained under the same key, or train them again. Default: $MEDKIT_LINK, "
        "or else train, and say what could have been taken.",
        show_default=False,
    ),
]
Inputs = Annotated[
    list[Path],
    typer.Option("--input", help="DICOM folder or file, NIfTI or PNG; once for each image of a case of several."),
]
Field = Annotated[
    list[str] | None, typer.Option("--field", metavar="NAME=VALUE", help="What a head needs besides the image.")
]
RunDir = Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")]
Track = Annotated[
    list[str] | None,
    typer.Option("--track", metavar="NAME", help="Report the run to an experiment tracker, such as tensorboard."),
]


def fields_of(texts: list[str] | None) -> dict[str, float]:
    """``NAME=VALUE`` texts as a mapping."""
    found = {}
    for text in texts or []:
        name, _, value = text.partition("=")
        if name in found:
            raise InputError(f"'{name}' is given twice", "--field")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise InputError(f"'{text}' is not NAME=NUMBER", "--field") from error
    return found


def check_run(folder: Path) -> None:
    """Refuse what is no run folder before torch is imported."""
    from medkit.runs.folder import RunFolder

    RunFolder.open(folder, plugins=False)
