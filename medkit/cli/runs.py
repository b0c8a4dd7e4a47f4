"""``medkit run``, ``resume``, ``predict``, ``evaluate``, ``report`` and ``compare``."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medkit.cli.components import PluginFile, Set, load_files
from medkit.cli.output import show_json, show_table
from medkit.cli.reading import AllowGaps, UnitsSaid
from medkit.errors import InputError, RunError

if TYPE_CHECKING:
    from medkit.runs.handle import Run

Device = Annotated[str | None, typer.Option("--device", help="cpu or cuda; default: cuda when there is one.")]
Devices = Annotated[int, typer.Option("--devices", min=1, help="Ranks on this machine, started by torch's launcher.")]
Skip = Annotated[
    list[str] | None, typer.Option("--skip", metavar="STAGE", help="Leave out a stage or variant, as segment@scratch.")
]
Field = Annotated[
    list[str] | None, typer.Option("--field", metavar="NAME=VALUE", help="What a head needs beside the image.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
RunDir = Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")]


def run(
    recipe: Annotated[str, typer.Argument(help="Path, or name of a bundled recipe.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Run folder; default runs/NAME-DATE-TIME.")
    ] = None,
    set: Set = None,
    skip: Skip = None,
    plugin: PluginFile = None,
    dry: Annotated[bool, typer.Option("--dry", help="Build everything, run one batch a stage, keep nothing.")] = False,
    devices: Devices = 1,
    device: Device = None,
    precision: Annotated[str, typer.Option("--precision", help="fp32 or bf16.")] = "fp32",
    seed: Annotated[int | None, typer.Option("--seed", help="Overrides the recipe's seed.")] = None,
) -> None:
    """Train the stages of a recipe, evaluate every test split and write the report.

    Example: medkit run ich_seg --out runs/first --set stages.pretext.epochs=2
    """
    load_files(plugin)
    if dry:
        from medkit.runs.dry import dry_run

        columns, rows = dry_run(recipe, set=set or [], skip=skip or [], device=device, precision=precision)
        show_table(columns, rows, "one batch a stage; no run folder was written")
        return
    if devices > 1 and "WORLD_SIZE" not in os.environ:
        from medkit.paths import default_folder
        from medkit.recipe import load_recipe

        out = out or default_folder(load_recipe(recipe, set=set or []).name)
        with _resumable(out):
            _launch(
                devices,
                "run",
                recipe,
                "--out",
                str(out),
                *_repeat("--set", set),
                *_repeat("--skip", skip),
                *_repeat("--plugin", plugin),
                "--precision",
                precision,
                *([] if device is None else ["--device", device]),
                *([] if seed is None else ["--seed", str(seed)]),
            )
        return
    from medkit.front import run as start
    from medkit.paths import default_folder
    from medkit.recipe import load_recipe

    checked = load_recipe(recipe, set=set or [])
    out = out or default_folder(checked.name)
    with _resumable(out):
        finished = start(checked, out, skip=skip or [], seed=seed, precision=precision, device=device)
    _show_results(finished)


def resume(folder: RunDir, plugin: PluginFile = None, devices: Devices = 1, device: Device = None) -> None:
    """Go on with a run that was interrupted, from its last checkpoint, as if it had never stopped.

    Example: medkit resume runs/first
    """
    load_files(plugin)
    if devices > 1 and "WORLD_SIZE" not in os.environ:
        with _resumable(folder):
            _launch(
                devices,
                "resume",
                str(folder),
                *_repeat("--plugin", plugin),
                *([] if device is None else ["--device", device]),
            )
        return
    from medkit.front import resume as go_on

    with _resumable(folder):
        finished = go_on(folder, device=device)
    _show_results(finished)


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Ctrl-C and SIGTERM say how to go on, and exit with 130; a run that lost stages shows the tables of the rest.

    A scheduler ends jobs by SIGTERM, which alone would leave programs running that the run has started.
    """

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except RunError:
        from medkit.cli.layouts import show_layout
        from medkit.reporting.paper_tables import laid_out
        from medkit.runs.folder import RunFolder

        if _main_rank() and RunFolder(folder).read_json("state.json", {}).get("failed"):
            for table in laid_out(folder):
                show_layout(table)
        raise
    except KeyboardInterrupt:
        if (folder / "recipe.yaml").exists():
            print(f"interrupted; resumable: medkit resume {folder}", file=sys.stderr)
        else:
            print("interrupted before anything was written", file=sys.stderr)
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _main_rank() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def _show_results(finished: Run) -> None:
    """The recipe's tables, a plain one of each stage that has none, and at last the report's path; on the main rank."""
    if not _main_rank():
        return
    try:
        _print_results(finished)
    except BrokenPipeError:  # nobody reads any more; the run is whole all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_results(finished: Run) -> None:
    from medkit.cli.layouts import show_layout
    from medkit.reporting.paper_tables import laid_out
    from medkit.reporting.tables import SEEN_MARK, as_text, results_table, variants
    from medkit.runs.seen import banners

    tables = laid_out(finished.folder)
    for name, stages in variants(finished.results).items():
        if name not in [table.stage for table in tables]:
            show_table(*as_text(results_table(name, stages, finished.results)), name)
    for table in tables:
        show_layout(table)
    for text in banners(finished.folder):
        print(f"{SEEN_MARK} {text}")
    print(finished.folder / "report.html", flush=True)


def _repeat(option: str, values: list[str] | None) -> list[str]:
    return [word for value in values or [] for word in (option, value)]


def _launch(devices: int, *arguments: str) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: TID251

    from medkit.engine.runtime import launch

    try:
        launch(devices, arguments)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        if code == 2:
            sys.exit(2)
        raise RunError(f"a rank failed with exit code {code}", hint="its own message is above") from None


def predict(
    folder: RunDir,
    input: Annotated[Path, typer.Option("--input", help="DICOM folder or NIfTI file.")],
    output: Annotated[
        Path, typer.Option("--output", help="New folder (DICOM), .nii.gz file, or .json file for numbers alone.")
    ],
    stage: Annotated[str | None, typer.Option("--stage", help="Default: the last stage that is no variant.")] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, max=1, help="Probability above which a voxel is positive.")
    ] = 0.5,
    resample: Annotated[
        bool, typer.Option("--resample", help="NIfTI of uneven or tilted DICOM slices: write an even grid.")
    ] = False,
    tile: Annotated[
        int | None, typer.Option("--tile", min=1, help="Denoisers: side in pixels of tiles; default: the recipe's.")
    ] = None,
    overlap: Annotated[
        float | None, typer.Option("--overlap", min=0, max=1, help="Share of a tile that the next one covers again.")
    ] = None,
    field: Field = None,
    allow_gaps: AllowGaps = False,
    units: UnitsSaid = None,
    device: Device = None,
    plugin: PluginFile = None,
) -> None:
    """Apply a finished run to an image; masks and images are written on the image's own grid.

    A DICOM folder gives a new DICOM series, or NIfTI if OUTPUT ends in .nii or .nii.gz; NIfTI gives NIfTI. Volumes,
    probabilities, and what the network was trained on and with go to prediction.json beside it. Slices at varying
    distances or with a gantry tilt are no NIfTI: name a folder, or give --resample.

    Example: medkit predict runs/first --input scans/0001 --output masks/0001
    """
    from medkit.runs.predict import predict as apply

    load_files(plugin)
    options: dict[str, Any] = {"threshold": threshold, "tile": tile, "overlap": overlap, "fields": _fields(field)}
    options |= {"allow_gaps": allow_gaps, "units": units}
    found = apply(folder, input, output, stage=stage, device=device, resample=resample, **options)
    if found["seen_in_training"] is True:
        print("note: this image or its patient was seen in training: the result is no test", file=sys.stderr)
    for note in [*found["notices"], *([found["resampled"]["how"]] if "resampled" in found else [])]:
        print(f"note: {note}", file=sys.stderr)
    show_json(found)


def explain(
    folder: RunDir,
    input: Annotated[Path, typer.Option("--input", help="DICOM folder or file, NIfTI or PNG.")],
    output: Annotated[Path, typer.Option("--output", help="New folder for the maps and explanation.json.")],
    stage: Annotated[str | None, typer.Option("--stage", help="Default: the last one with heads.")] = None,
    head: Annotated[str | None, typer.Option("--head", help="Default: the first that gives a number or class.")] = None,
    target: Annotated[int | None, typer.Option("--class", help="Class to explain; default: the likeliest.")] = None,
    against: Annotated[
        bool, typer.Option("--against", help="Grad-CAM of what lowers the score, where what raises it is empty.")
    ] = False,
    field: Field = None,
    allow_gaps: AllowGaps = False,
    units: UnitsSaid = None,
    device: Device = None,
    plugin: PluginFile = None,
) -> None:
    """Show where a finished run's network looks in an image: activation and Grad-CAM of every slice, as PNG.

    Example: medkit explain runs/first --input hand.png --output maps --field sex=1
    """
    from medkit.runs.explain import explain as apply

    load_files(plugin)
    options: dict[str, Any] = {"fields": _fields(field), "allow_gaps": allow_gaps, "units": units, "against": against}
    found = apply(folder, input, output, stage=stage, head=head, target=target, device=device, **options)
    for note in [*found["notices"], *([found["note"]] if "note" in found else [])]:
        print(f"note: {note}", file=sys.stderr)
    show_json(found)


def _fields(texts: list[str] | None) -> dict[str, float]:
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


def evaluate(
    folder: RunDir,
    split: Annotated[str, typer.Option("--split", help="A split of the stage's data.")],
    stage: Annotated[str | None, typer.Option("--stage", help="Default: every stage.")] = None,
    allow_seen: Annotated[
        str | None,
        typer.Option("--allow-seen", metavar="REASON", help="Why patients may be tested that were seen in training."),
    ] = None,
    device: Device = None,
    plugin: PluginFile = None,
    json: Json = False,
) -> None:
    """Evaluate a finished run on one split and add the numbers to its results.

    Example: medkit evaluate runs/first --split external1
    """
    from medkit.reporting.tables import SEEN_MARK
    from medkit.runs.again import evaluate_again
    from medkit.runs.seen import banners

    load_files(plugin)
    found = evaluate_again(folder, split, stage=stage, device=device, allow_seen=allow_seen)
    if json:
        show_json({e.stage: {name: value.json() for name, value in e.values.items()} for e in found})
        return
    rows = [
        (
            e.stage,
            n,
            f"{v.value:.4g}{SEEN_MARK if v.seen else ''}" if math.isfinite(v.value) else "undefined",
            "no interval" if math.isnan(v.low) else f"{v.low:.4g} to {v.high:.4g}",
            v.counts,
            v.n_empty,
        )
        for e in found
        for n, v in e.values.items()
    ]
    show_table(["stage", "metric", "value", "95 % interval", "counted", "empty"], rows, split)
    for text in banners(folder):
        print(f"{SEEN_MARK} {text}")


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Run folders.")],
    json: Json = False,
    plugin: PluginFile = None,
) -> None:
    """Write the report of one or several runs again, each into its folder, and print the tables of their recipes.

    Example: medkit report runs/first
    """
    from medkit.cli.layouts import show_layout
    from medkit.reporting.paper_table_text import as_json
    from medkit.reporting.paper_tables import laid_out
    from medkit.reporting.report import write_report
    from medkit.runs.folder import RunFolder

    load_files(plugin)
    found = []
    for folder in folders:
        path = write_report(RunFolder.open(folder).path)
        tables = laid_out(folder)
        found.append({"report": str(path), "tables": [as_json(table) for table in tables]})
        if not json:
            for table in tables:
                show_layout(table)
            print(path)
    if json:
        show_json(found)


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Two or more run folders.")],
    json: Json = False,
) -> None:
    """Set the results of several runs side by side.

    Example: medkit compare runs/first runs/second
    """
    from medkit.evaluation.evaluate import read_results
    from medkit.reporting.tables import SEEN_MARK
    from medkit.runs.folder import RunFolder

    if len(folders) < 2:
        raise InputError("two or more run folders are needed to compare")
    results = {str(folder): read_results(RunFolder.open(folder, plugins=False).path) for folder in folders}
    keys = list(
        dict.fromkeys(
            (stage, split, metric)
            for r in results.values()
            for stage, s in r.items()
            for split, m in s.items()
            for metric in m
        )
    )
    if json:
        show_json(
            {
                name: {
                    "/".join(key): r[key[0]][key[1]][key[2]].json()
                    for key in keys
                    if key[2] in r.get(key[0], {}).get(key[1], {})
                }
                for name, r in results.items()
            }
        )
        return
    rows = []
    for key in keys:
        cells = []
        for r in results.values():
            value = r.get(key[0], {}).get(key[1], {}).get(key[2])
            mark = SEEN_MARK if value is not None and value.seen else ""
            cells.append("-" if value is None else value.told(mark))
        rows.append((*key, *cells))
    show_table(["stage", "split", "metric", *[Path(name).name for name in results]], rows)
