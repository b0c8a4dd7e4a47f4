"""``medkit data pedxnet``, balanced samples of a manifest, and public sets of children's radiographs as manifests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def pedxnet(
    manifest: Annotated[Path, typer.Argument(help="Parquet or CSV, one row per radiograph.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the samples.")],
    seed: Annotated[int, typer.Option("--seed")] = 0,
    total: Annotated[
        int | None, typer.Option("--total", min=1, help="Images in each sample; default: as many as possible.")
    ] = None,
    view_column: Annotated[str, typer.Option("--view-column", help="Name of one of the 68 views.")] = "view",
    patient_column: Annotated[str, typer.Option("--patient-column")] = "patient",
    date_column: Annotated[str | None, typer.Option("--date-column", help="Only with --split-date.")] = None,
    split_date: Annotated[
        str | None, typer.Option("--split-date", help="First day (YYYY-MM-DD) of validation; earlier ones train.")
    ] = None,
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Draw no earlier images of patients on both sides of the date.")
    ] = False,
    hip_in: Annotated[str, typer.Option("--hip-in", help="Pelvis or Lower_Extremity, at 7 classes.")] = "Pelvis",
) -> None:
    """Draw class-balanced samples of equal size at 7, 30 and 68 radiographic views, from millions of rows in seconds.

    Example: medkit data pedxnet radiographs.parquet --out pedxnet --seed 0
    """
    from medkit.api import InputError
    from medkit.data.sampling import ByDate, sample_manifest
    from medkit.data.whole import whole_folder
    from medkit_pedxnet.sources_views import write_chosen
    from medkit_pedxnet.views import LEVELS, Views

    if hip_in not in ("Pelvis", "Lower_Extremity"):
        raise InputError(f"'{hip_in}' is neither Pelvis nor Lower_Extremity", "--hip-in")
    views = Views(hip_in)  # type: ignore[arg-type]
    with whole_folder(out) as folder:
        sampled = sample_manifest(
            manifest,
            views.hierarchy(),
            column=view_column,
            patient=patient_column,
            seed=seed,
            total=total,
            by_date=ByDate.of(date_column, split_date, "leave_out" if leave_out else "error", str(manifest)),
        )
        summary: dict[str, Any] = {"seed": seed, "total": sampled.total, "later": len(sampled.later), "hip_in": hip_in}
        for level in LEVELS:
            summary[f"views_{level}"] = write_chosen(sampled, views, level, seed, folder / f"views_{level}.parquet")
        (folder / "sample.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(f"{out}: {sampled.total} training images per level, {len(sampled.later)} later ones")


Folder = Annotated[Path, typer.Argument(help="The data set's folder.")]
Out = Annotated[Path, typer.Option("--out", help="The manifest to write: .csv or .parquet.")]


def rsna_bone_age(folder: Folder, out: Out) -> None:
    """RSNA Pediatric Bone Age Challenge 2017 (three tables, folders of PNG) to a manifest, one row per image.

    Example: medkit data rsna-bone-age /data/bone-age --out ages.csv
    """
    from medkit_pedxnet.layouts import bone_age

    _write(bone_age(folder), out)


def grazpedwri(folder: Folder, out: Out) -> None:
    """GRAZPEDWRI-DX (dataset.csv, PNG anywhere below) to a manifest, one row per image.

    Example: medkit data grazpedwri /data/grazpedwri --out wrists.csv
    """
    from medkit_pedxnet.layouts import wrists

    _write(wrists(folder), out)


def _write(manifest: Any, out: Path) -> None:
    from medkit.data.layouts import write_manifest

    print(*write_manifest(manifest, out), sep="\n")
