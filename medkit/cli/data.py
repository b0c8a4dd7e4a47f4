"""``medkit data`` and ``medkit simulate-dose``: folders to manifests, scans to low-dose scans."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from medkit.cli import data_folder
from medkit.cli.options import AllowGaps, Lists, UnitsSaid
from medkit.guard import cause, guarded


class _WithPlugins(TyperGroup):
    """The commands here and those that plugins bring; plugins are loaded only when this group is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *sorted(_of_plugins())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        target = None if found is not None else _of_plugins().get(cmd_name)
        if target is None:
            return found
        module, _, attribute = target.partition(":")
        alone = typer.Typer(rich_markup_mode=None, add_completion=False)
        try:
            with guarded():
                alone.command(cmd_name)(getattr(importlib.import_module(module), attribute))
                return typer.main.get_command(alone)
        except Exception as error:  # the other commands, and the help of all, have to stay
            print(
                f"medkit: command 'data {cmd_name}' cannot be loaded from '{target}': {cause(error)}", file=sys.stderr
            )
            return None


@functools.cache
def _of_plugins() -> dict[str, str]:
    """Commands of plugins by name, with their targets; of two with one name the first is kept, and that is told."""
    from medkit.registry.plugins import Hooks

    hook, hooks = "medkit_data_commands", Hooks()
    owners = {str(command.name): "medkit" for command in app.registered_commands}
    found: dict[str, str] = {}
    for plugin, commands in hooks(hook):
        if not isinstance(commands, Mapping) or not all(
            isinstance(text, str) for pair in commands.items() for text in pair
        ):
            hooks.fault(plugin, hook, f"it answered {commands!r:.80}, not a mapping of command to 'module:function'")
            continue
        for name, target in commands.items():
            if name in owners:
                print(
                    f"medkit: command 'data {name}' of plugin '{plugin}' was left out: "
                    f"'{owners[name]}' has one of that name",
                    file=sys.stderr,
                )
                continue
            owners[name], found[name] = plugin, target
    return found


app = typer.Typer(
    cls=_WithPlugins,
    help="Turn folders of images, and those of public data sets, into manifests.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Folder = Annotated[Path, typer.Argument(help="The data set's folder.")]
Out = Annotated[Path, typer.Option("--out", help="The manifest to write: .csv or .parquet.")]


@app.callback()
def _data() -> None:
    """Turn folders of images, and those of public data sets, into manifests."""


@app.command("ct-ich")
def ct_ich(folder: Folder, out: Out) -> None:
    """PhysioNet CT-ICH 1.3.1 (ct_scans, masks, csv) to a manifest.

    Example: medkit data ct-ich /data/ct-ich --out ich.csv
    """
    from medkit.data import layouts

    _write(layouts.physionet_ct_ich(folder), out)


@app.command("rsna")
def rsna(folder: Folder, out: Out, lists: Lists = None) -> None:
    """RSNA Intracranial Hemorrhage Detection (stage_2_train.csv and folder) to a manifest, one row a series.

    Example: medkit data rsna /data/rsna-ich --out rsna.csv
    """
    from medkit.data import layouts

    _write(layouts.rsna_hemorrhage(folder, _lists(lists, out)), out)


@app.command("mayo")
def mayo(folder: Folder, out: Out, lists: Lists = None) -> None:
    """AAPM/Mayo Low Dose CT Grand Challenge 2016 (quarter_3mm, full_3mm, ...) to a manifest of pairs.

    Example: medkit data mayo /data/mayo2016 --out ldct.csv
    """
    from medkit.data.layouts_lowdose import mayo_2016
    from medkit.engine.progress import Progress

    with Progress() as progress, progress.task("reading headers") as advance:
        manifest = mayo_2016(folder, _lists(lists, out), progress=advance)
    _write(manifest, out)


@app.command("ldct-projection")
def ldct_projection(folder: Folder, out: Out, lists: Lists = None) -> None:
    """TCIA LDCT-and-Projection-data (Low Dose Images, Full Dose Images) to a manifest of pairs.

    Example: medkit data ldct-projection /data/LDCT-and-Projection-data --out ldct.csv
    """
    from medkit.data import layouts_lowdose
    from medkit.engine.progress import Progress

    with Progress() as progress, progress.task("reading headers") as advance:
        manifest = layouts_lowdose.ldct_projection(folder, _lists(lists, out), progress=advance)
    _write(manifest, out)
    left_out = manifest.attrs["left_out"]
    if left_out:
        print(f"left out, no low-dose images (GE): {len(left_out)} patients: {', '.join(left_out)}")


@app.command("bhsd")
def bhsd(folder: Folder, out: Out) -> None:
    """BHSD (label_192: images, ground truths) to a manifest, with masks of five kinds of bleed.

    Example: medkit data bhsd /data/bhsd --out bhsd.csv
    """
    _of_bleeds("bhsd", folder, out)


@app.command("instance")
def instance(folder: Folder, out: Out) -> None:
    """INSTANCE 2022 (train_2: data, label) to a manifest, with masks of bleeds.

    Example: medkit data instance /data/instance --out instance.csv
    """
    _of_bleeds("instance_2022", folder, out)


@app.command("hemseg")
def hemseg(folder: Folder, out: Out) -> None:
    """HemSeg-200 (image, label, annotion_file_info.jsonl) to a manifest, with masks of bleeds.

    Example: medkit data hemseg /data/hemseg --out hemseg.csv
    """
    _of_bleeds("hemseg_200", folder, out)


@app.command("cq500")
def cq500(
    folder: Folder,
    out: Out,
    reads: Annotated[
        Path | None, typer.Option("--reads", metavar="CSV", help="The readers' table; default: reads.csv in FOLDER.")
    ] = None,
    thickness: Annotated[
        float | None, typer.Option("--thickness", metavar="MM", help="Of several series, the nearest to this.")
    ] = None,
    lists: Lists = None,
) -> None:
    """CQ500 (CQ500CT12/Unknown Study/SERIES, reads.csv) to a manifest, one series a scan, with the readers' majority.

    Example: medkit data cq500 /data/cq500 --out cq500.csv
    """
    from medkit.cli.data_folder import say
    from medkit.data.layouts_cq500 import CHOICES, cq500
    from medkit.engine.progress import Progress

    with Progress() as progress, progress.task("reading headers") as advance:
        choices = dataclasses.replace(CHOICES, thickness=thickness)
        made = cq500(folder, out, reads, choices, lists=lists, progress=advance)
    say(made, out)


@app.command("mura")
def mura(folder: Folder, out: Out) -> None:
    """MURA 1.1 (train and valid, XR_ELBOW/patient00011/study1_negative) to a manifest, one row an image.

    Example: medkit data mura /data/MURA-v1.1 --out mura.csv
    """
    from medkit.data.layouts_mura import mura as layout

    _write(layout(folder), out)


@app.command("fracatlas")
def fracatlas(
    folder: Folder,
    out: Out,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="DIR", help="New folder for PNG files; default: OUT_pictures beside OUT."),
    ] = None,
) -> None:
    """FracAtlas (dataset.csv, images, Annotations) to a manifest; its JPEG pictures and outlines become PNG files.

    Example: medkit data fracatlas /data/FracAtlas --out fracatlas.csv
    """
    from medkit.data.layouts import check_new_manifest
    from medkit.data.layouts_fracatlas import fracatlas as layout
    from medkit.engine.progress import Progress

    check_new_manifest(out)
    place = pictures if pictures is not None else out.with_name(f"{out.stem}_pictures")
    with Progress() as progress, progress.task("writing PNG files") as advance:
        manifest = layout(folder, place, progress=advance)
    _write(manifest, out)


app.command("folder")(data_folder.folder)
app.command("split")(data_folder.split)


def _of_bleeds(name: str, folder: Path, out: Path) -> None:
    from medkit.data import layouts_bleeds
    from medkit.engine.progress import Progress

    with Progress() as progress, progress.task("reading masks") as advance:
        manifest = getattr(layouts_bleeds, name)(folder, progress=advance)
    _write(manifest, out)


def _lists(lists: Path | None, out: Path) -> Path:
    """Beside the manifest, as a data set's own folder is often read only."""
    return lists if lists is not None else out.with_name(f"{out.stem}_series")


def _write(manifest: Any, out: Path) -> None:
    from medkit.data.layouts import write_manifest

    print(*write_manifest(manifest, out), sep="\n")


def simulate_dose(
    input: Annotated[Path, typer.Option("--input", help="DICOM folder or NIfTI file, HU.")],
    output: Annotated[Path, typer.Option("--output", help="New folder (DICOM) or file (NIfTI).")],
    dose: Annotated[float, typer.Option("--dose", help="Share of the scan's dose, in (0, 1].")],
    seed: Annotated[int, typer.Option("--seed")] = 0,
    photons: Annotated[
        float | None,
        typer.Option("--photons", help="Photons a ray at full dose (default: 2e6); more is less noise."),
    ] = None,
    electronic: Annotated[float, typer.Option("--electronic", help="Electronic noise, in photons.")] = 5.0,
    bow_tie: Annotated[
        float, typer.Option("--bow-tie", help="Photons left at the ends of the detector, as a share.")
    ] = 1.0,
    modulation: Annotated[
        float, typer.Option("--modulation", help="Strength of the tube current's angular modulation, 0 to 1.")
    ] = 0.0,
    kernel: Annotated[str, typer.Option("--kernel", help="soft, sharp or ramp.")] = "soft",
    match_hu: Annotated[
        float | None,
        typer.Option("--match-hu", metavar="HU", help="Noise to add in the region, in place of --photons."),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--region",
            help="Where: hu=LOW:HIGH (default: hu=10:70), disc=ROW,COLUMN,RADIUS_MM or box=TOP:BOTTOM,LEFT:RIGHT.",
        ),
    ] = None,
    each_slice: Annotated[bool, typer.Option("--each-slice", help="Match every slice on its own.")] = False,
    resample: Annotated[
        bool, typer.Option("--resample", help="NIfTI of uneven or tilted DICOM slices: write an even grid.")
    ] = False,
    allow_gaps: AllowGaps = False,
    units: UnitsSaid = None,
) -> None:
    """Add to a CT scan the noise of a lower dose, drawn in the projection domain.

    A DICOM folder gives a DICOM series in a new folder, or a NIfTI file if OUTPUT ends in .nii or .nii.gz.

    Example: medkit simulate-dose --input scans/0001 --output low/0001 --dose 0.25 --seed 7
    """
    from medkit.data.dose import PHOTONS, Scanner
    from medkit.data.dose_match import match_of
    from medkit.runs.lowdose import simulate

    match = match_of(match_hu, region, each_slice, photons)
    beam: dict[str, Any] = {"electronic": electronic, "bow_tie": bow_tie, "kernel": kernel, "modulation": modulation}
    scanner = Scanner(photons=PHOTONS if photons is None else photons, **beam)
    reading: dict[str, Any] = {"allow_gaps": allow_gaps, "units": units}
    for said in simulate(input, output, dose, scanner=scanner, match=match, seed=seed, resample=resample, **reading):
        print(f"note: {said}", file=sys.stderr)
    print(output)
