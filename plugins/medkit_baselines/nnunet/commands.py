"""``medkit data nnunet`` and ``medkit data to-nnunet``: manifests from nnU-Net's data sets, and vice versa."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def nnunet(
    folder: Annotated[Path, typer.Argument(help="Raw data set: dataset.json, imagesTr, labelsTr.")],
    out: Annotated[Path, typer.Option("--out", help="New manifest, .csv or .parquet.")],
    seed: Annotated[int, typer.Option("--seed", help="For drawing folds.")] = 0,
) -> None:
    """Write the manifest of a raw data set of nnU-Net.

    Example: medkit data nnunet nnUNet_raw/Dataset001_ICH --out ich.csv
    """
    from medkit.data.layouts import write_manifest
    from medkit_baselines.nnunet.dataset import CASES, manifest

    table = manifest(folder, seed)
    write_manifest(table, out)
    print(f"{out}: {len(table)} cases")
    if not (folder / CASES).is_file():
        print("each case counts as its own patient: correct the column 'patient' where that is wrong")


def to_nnunet(
    path: Annotated[Path, typer.Argument(metavar="MANIFEST", help="CSV or Parquet, one row per scan with a mask.")],
    out: Annotated[Path, typer.Option("--out", help="New folder, such as nnUNet_raw/Dataset001_ICH.")],
    fold: Annotated[
        list[str] | None, typer.Option("--fold", help="Folds to write; default: train and val, or all if none is set.")
    ] = None,
    case: Annotated[str | None, typer.Option("--case", help="Column with a name of each row; default: image.")] = None,
    allow_gaps: Annotated[
        bool, typer.Option("--allow-gaps", help="Take series with missing slices as they are.")
    ] = False,
    units: Annotated[
        str | None, typer.Option("--units", metavar="HU", help="Unit of the voxels, where the file does not state it.")
    ] = None,
    no_mask: Annotated[
        str | None, typer.Option("--no-mask", metavar="normal", help="What rows without a mask are, if there are any.")
    ] = None,
) -> None:
    """Write scans and masks of a manifest as a raw data set of nnU-Net, for use outside medkit.

    Patients, centres and folds go into its cases.json, from which 'medkit data nnunet' restores them.

    Example: medkit data to-nnunet ich.csv --out nnUNet_raw/Dataset001_ICH
    """
    from rich.console import Console
    from rich.progress import Progress

    from medkit.api import InputError
    from medkit.data.source import ManifestSource, read_table
    from medkit.data.whole import whole_folder
    from medkit_baselines.nnunet.dataset import write_raw

    columns = list(read_table(path).columns)
    name = case or ("case" if "case" in columns else None)
    read: dict[str, Any] = {"units": units, "no_mask": no_mask}
    source = ManifestSource(str(path), case=name, allow_gaps=allow_gaps, **read)
    cases = list(source.cases())
    wanted = fold or (["train", "val"] if any(c.fold for c in cases) else [""])
    chosen = [c for c in cases if c.fold in wanted]
    if not chosen:
        there = ", ".join(sorted({c.fold for c in cases}))
        raise InputError(f"no case has fold {' or '.join(wanted)}", str(path), f"folds: {there}")
    screen = Console(stderr=True)
    with whole_folder(out) as folder, Progress(console=screen, disable=not screen.is_terminal) as bars:
        bar = bars.add_task("writing", total=len(chosen))
        write_raw(
            folder,
            chosen,
            source.load,
            advance=lambda done, total=None, note="": bars.update(bar, completed=done),
            say=lambda text: screen.print(text, markup=False, highlight=False),
        )
    print(f"{out}: {len(chosen)} cases")
