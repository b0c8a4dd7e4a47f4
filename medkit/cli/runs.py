"""``medkit run`` and ``medkit resume``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkit.cli.components import load_files
from medkit.cli.options import Device, Devices, PluginFile, RunDir, Set, Skip
from medkit.cli.output import show_table
from medkit.errors import RunError

if TYPE_CHECKING:
    from medkit.runs.handle import Run


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
