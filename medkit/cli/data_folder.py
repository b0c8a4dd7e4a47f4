"""``medkit data folder`` and ``medkit data split``: any tree of images to a manifest with folds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medkit.data.tree_write import Written

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
            "--by", metavar="KEY", help="What ids name: case, file, name, series, study, accession, patient, folder."
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
    skip: Annotated[
        str | None,
        typer.Option("--skip", metavar="REGEX", help="Leave series out in whose description or folder this is found."),
    ] = None,
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
    from medkit.data.tree_labels import Labels
    from medkit.data.tree_table import Choices
    from medkit.data.tree_write import write
    from medkit.engine.progress import Progress

    wanted = Choices(modality, min_slices, thickness, sharp, every_series, allow_gaps, patient, masks, skip)
    with Progress() as progress, progress.task("reading headers") as advance:
        joined = None if labels is None else Labels(labels, id, by)
        made = write(folder, out, wanted, labels=joined, lists=lists, progress=advance)
    say(made, out)


def say(made: Written, out: Path) -> None:
    """Say what a tree of images became."""
    from medkit.cli.output import show_table

    patients = len({row["patient"] for row in made.rows})
    print(f"{out}: {len(made.rows)} cases of {patients} patients, out of {made.files} files")
    for line in made.told:
        print(line)
    if made.left_out:
        print(f"{made.left_out_path}: what is left out, each with the reason")
        show_table(("left out", "lines"), made.left_out.most_common())


def split(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="CSV or Parquet; a column is added to it.")],
    by: Annotated[
        str, typer.Option("--by", metavar="COLUMN", help="Rows with equal values stay together.")
    ] = "patient",
    stratify: Annotated[
        str | None,
        typer.Option(
            "--stratify",
            metavar="COLUMN",
            help="What all folds have alike: classes or a number; each of A,B of 0 and 1.",
        ),
    ] = None,
    folds: Annotated[
        int | None, typer.Option("--folds", min=2, help="Folds of one size, 1 to N; default: train, val and test.")
    ] = None,
    shares: Annotated[
        str, typer.Option("--shares", metavar="A,B,C", help="Shares of train, val and test.")
    ] = "0.7,0.1,0.2",
    seed: Annotated[int, typer.Option("--seed", help="Another one deals otherwise.")] = 0,
    column: Annotated[str, typer.Option("--column", help="Name of the column that is written.")] = "fold",
    out: Annotated[Path | None, typer.Option("--out", help="Write another manifest, and leave this one.")] = None,
) -> None:
    """Deal the patients of a manifest to folds: whole, alike in their labels, the same every time.

    Example: medkit data split cases.csv --by patient --stratify label
    """
    from medkit.cli.output import show_table
    from medkit.data.folds import split as deal
    from medkit.data.manifest import as_number

    wanted = [as_number(text) for text in shares.split(",")]
    made = deal(manifest, by, stratify, folds, wanted, seed, column, out)
    rows = [
        (name, made.groups[name], made.of_rows.count(name), *(counts[name] for counts in made.strata.values()))
        for name in made.folds
    ]
    strata = list(made.strata) if stratify else []
    show_table((column, by, "rows", *strata), [row[: 3 + len(strata)] for row in rows], str(out or manifest))
    for line in made.told:
        print(line)
