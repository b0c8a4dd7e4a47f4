"""``medkit data folder``: any tree of images to a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of images: DICOM, NIfTI and PNG at any depth.")]


def folder(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", help="The manifest to write: .csv or .parquet.")],
    labels: Annotated[
        Path | None, typer.Option("--labels", metavar="CSV", help="Table to join: an id and any columns.")
    ] = None,
    id: Annotated[str | None, typer.Option("--id", metavar="COLUMN", help="Column of --labels with the ids.")] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar="KEY", help="What ids name: case, name, series, study, accession, patient, folder."
        ),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option("--masks", metavar="DIR", help="Folder of masks, named as the images are.")
    ] = None,
    patient: Annotated[
        str, typer.Option("--patient", metavar="header|folder|REGEX", help="What says whose an image is.")
    ] = "header",
    modality: Annotated[
        str | None, typer.Option("--modality", help="DICOM modality that is taken; default: that of the most images.")
    ] = None,
    min_slices: Annotated[int, typer.Option("--min-slices", min=1, help="Series with fewer are left out.")] = 8,
    thickness: Annotated[
        float | None, typer.Option("--thickness", metavar="MM", help="Of several series, the nearest to this.")
    ] = None,
    sharp: Annotated[bool, typer.Option("--sharp", help="Prefer sharp kernels (bone, lung), not soft ones.")] = False,
    every_series: Annotated[
        bool, typer.Option("--every-series", help="Every series that can be read is a case, in any plane.")
    ] = False,
    allow_gaps: Annotated[
        bool, typer.Option("--allow-gaps", help="Take series with missing slices as they are.")
    ] = False,
    lists: Annotated[
        Path | None,
        typer.Option(
            "--lists", metavar="DIR", help="Where lists of a series' files go; default: OUT_series beside OUT."
        ),
    ] = None,
) -> None:
    """A folder of images to a manifest: one case a study, or a file, chosen by rule and explained.

    Headers are read and no pixels. What is left out goes to OUT.left_out.csv, one line each, with the reason.

    Example: medkit data folder /data/scans --labels labels.csv --out cases.csv
    """
    from medkit.cli.output import show_table
    from medkit.data.tree_table import Choices
    from medkit.data.tree_write import write
    from medkit.engine.progress import Progress

    wanted = Choices(modality, min_slices, thickness, sharp, every_series, allow_gaps, patient, masks)
    with Progress() as progress, progress.task("reading headers") as advance:
        made = write(folder, out, wanted, labels=labels, column=id, by=by, lists=lists, progress=advance)
    patients = len({row["patient"] for row in made.rows})
    print(f"{out}: {len(made.rows)} cases of {patients} patients, out of {made.files} files")
    for line in made.told:
        print(line)
    if made.left_out:
        show_table(("left out", "lines"), made.left_out.most_common(), f"{made.left_out_path}: one line each")
