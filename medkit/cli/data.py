"""``medkit data`` and ``medkit simulate-dose``: folders to manifests, scans to low-dose scans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Turn public data sets' folders into manifests.", no_args_is_help=True, rich_markup_mode=None)
Folder = Annotated[Path, typer.Argument(help="The data set's folder.")]
Out = Annotated[Path, typer.Option("--out", help="The manifest to write: .csv or .parquet.")]


@app.callback()
def _data() -> None:
    """Turn public data sets' folders into manifests."""


@app.command("ct-ich")
def ct_ich(folder: Folder, out: Out) -> None:
    """PhysioNet CT-ICH 1.3.1 (ct_scans, masks, csv) to a manifest.

    Example: medkit data ct-ich /data/ct-ich --out ich.csv
    """
    from medkit.data import layouts

    _write(layouts.physionet_ct_ich(folder), out)


@app.command("rsna")
def rsna(folder: Folder, out: Out) -> None:
    """RSNA Intracranial Hemorrhage Detection (stage_2_train.csv and folder) to a manifest, one row a series.

    Example: medkit data rsna /data/rsna-ich --out rsna.csv
    """
    from medkit.data import layouts

    _write(layouts.rsna_hemorrhage(folder), out)


def _write(manifest: Any, out: Path) -> None:
    from medkit.data.layouts import write_manifest

    write_manifest(manifest, out)
    print(f"{out}: {len(manifest)} cases of {manifest['patient'].nunique()} patients")


def simulate_dose(
    input: Annotated[Path, typer.Option("--input", help="DICOM folder or NIfTI file, HU.")],
    output: Annotated[Path, typer.Option("--output", help="New folder (DICOM) or file (NIfTI).")],
    dose: Annotated[float, typer.Option("--dose", help="Share of the scan's dose, in (0, 1].")],
    seed: Annotated[int, typer.Option("--seed")] = 0,
    photons: Annotated[float, typer.Option("--photons", help="Photons a ray at full dose.")] = 2e5,
    electronic: Annotated[float, typer.Option("--electronic", help="Electronic noise, in photons.")] = 5.0,
    bow_tie: Annotated[
        float, typer.Option("--bow-tie", help="Photons left at the edge of the field, as a share.")
    ] = 1.0,
    kernel: Annotated[str, typer.Option("--kernel", help="soft, sharp or ramp.")] = "soft",
) -> None:
    """Add to a CT scan the noise of a lower dose, drawn in the projection domain.

    Example: medkit simulate-dose --input scans/0001 --output low/0001 --dose 0.25 --seed 7
    """
    from medkit.runs.lowdose import simulate

    simulate(input, output, dose, seed=seed, photons=photons, electronic=electronic, bow_tie=bow_tie, kernel=kernel)
    print(output)
