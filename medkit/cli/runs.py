"""``medkit run`` and ``medkit resume``: on one process, or on several that one command starts and ends together."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from medkit.cli.components import load_files
from medkit.cli.options import Device, Devices, Jobs, Link, PluginFile, RunDir, Set, Skip, Track, Workers, check_run
from medkit.cli.output import show_table
from medkit.cli.ranks import given, load_files_together, place_here, repeated
from medkit.engine import interrupt
from medkit.engine.ranks import RENDEZVOUS, place
from medkit.errors import InputError, RunError, StoppedError
from medkit.paths import typed

if TYPE_CHECKING:
    from medkit.recipe import Recipe
    from medkit.runs.handle import Run


def run(
    recipe: Annotated[str, typer.Argument(help="Path, or name of a bundled recipe.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Run folder; default runs/NAME-DATE-TIME.")
    ] = None,
    set: Set = None,
    skip: Skip = None,
    plugin: PluginFile = None,
    dry: Annotated[
        bool, typer.Option("--dry", help="Build everything, run one batch per stage, keep nothing.")
    ] = False,
    devices: Devices = 1,
    device: Device = None,
    precision: Annotated[str, typer.Option("--precision", help="fp32 or bf16.")] = "fp32",
    seed: Annotated[int | None, typer.Option("--seed", help="Overrides the recipe's seed.")] = None,
    jobs: Jobs = None,
    workers: Workers = None,
    resume: Annotated[bool, typer.Option("--resume", help="Carry on in DIR if this run was begun there.")] = False,
    track: Track = None,
    link: Link = None,
) -> None:
    """Train the stages of a recipe, evaluate every test split and write the report.

    Started on several ranks by srun or torchrun, it finds its place in their environment (docs/cluster.md).

    Example: medkit run ich_seg --out runs/first --set stages.pretext.epochs=2
    """
    if dry:
        from medkit.runs.dry import COLUMNS, GROUP_COLUMNS, dry_run

        load_files(plugin)
        found = dry_run(recipe, set=set or [], skip=skip or [], device=device, precision=precision)
        show_table(COLUMNS, found.rows, "one batch per stage; no run folder was written")
        if found.groups:
            show_table(GROUP_COLUMNS, found.groups, "weights that decay or learn differently")
        return
    _say_at_once(f"{recipe}: checking the recipe")
    here = place_here(devices)
    load_files_together(here, plugin, device)
    checked: Recipe | str = recipe
    if here.world_size == 1:  # ranks look at it together
        from medkit.paths import default_folder
        from medkit.recipe import load_recipe

        if resume and out is None:
            raise InputError("--resume needs the folder of the run", "--out")
        checked = load_recipe(recipe, set=set or [])
        checked = checked.without(skip) if skip else checked
        out = out or default_folder(checked.name)
    with _resumable(out, devices):
        if devices > 1:
            from medkit.engine.launch import launch

            options = [*repeated("--set", set), *repeated("--skip", skip), *repeated("--plugin", plugin)]
            options += [
                *given("--device", device),
                "--precision",
                precision,
                *given("--seed", seed),
                *repeated("--track", track),
                *_linking(link),
            ]
            options += [*given("--jobs", jobs), *given("--workers", workers)]
            launch(devices, ["run", recipe, "--out", str(out), *options, *(["--resume"] if resume else [])])
            return
        words: dict[str, Any] = {"precision": precision, "device": device, "resume": resume, "track": track or []}
        words |= {"jobs": jobs, "workers": _workers(workers), "link": link}
        if isinstance(checked, str):
            words |= {"set": set or [], "skip": skip or []}
        finished = _front().run(checked, out, seed=seed, **words)
        if here.is_main:
            _show_results(finished)


def resume(
    folder: RunDir,
    plugin: PluginFile = None,
    devices: Devices = 1,
    device: Device = None,
    jobs: Jobs = None,
    workers: Workers = None,
    track: Track = None,
    link: Link = None,
) -> None:
    """Continue an interrupted run from its last checkpoint, as if it had never stopped.

    Example: medkit resume runs/first
    """
    _say_at_once(f"{folder}: looking how far it has come")
    here = place_here(devices)
    if here.world_size == 1:  # of several ranks, one says it later
        check_run(folder)
    load_files_together(here, plugin, device)
    with _resumable(folder, devices):
        if devices > 1:
            from medkit.engine.launch import launch

            options = [*repeated("--plugin", plugin), *given("--device", device), *repeated("--track", track)]
            options += [*given("--jobs", jobs), *given("--workers", workers), *_linking(link)]
            launch(devices, ["resume", str(folder), *options])
            return
        finished = _front().resume(
            folder, device=device, jobs=jobs, workers=_workers(workers), track=track or [], link=link
        )
        if here.is_main:
            _show_results(finished)


def _say_at_once(text: str) -> None:
    """What torch's import would keep people waiting for."""
    if place().is_main and RENDEZVOUS not in os.environ:
        with suppress(OSError):  # nobody reads
            print(text, file=sys.stderr, flush=True)


def _front() -> ModuleType:
    """The library, imported."""
    from medkit import front
    from medkit.engine.memory import spare_imports

    spare_imports()
    return front


def _workers(text: str | None) -> int | Literal["auto"] | None:
    if text is None or text == "auto":
        return text  # type: ignore[return-value]
    if not text.isascii() or not text.isdigit() or int(text) > 256:
        raise InputError(f"'{text}' is not a number of processes", "--workers", "a number from 0 to 256, or auto")
    return int(text)


def _linking(link: bool | None) -> list[str]:
    return [] if link is None else ["--link"] if link else ["--fresh"]


@contextmanager
def _resumable(folder: Path | None, devices: int) -> Iterator[None]:
    """Signals say how to continue, and exit with 130; a run that lost stages shows the tables of the rest."""
    go_on = f"medkit resume {typed(folder or 'RUN')}" + (f" --devices {devices}" if devices > 1 else "")
    interrupt.begin(f"interrupted at once; resumable: {go_on}")
    try:
        yield
    except RunError:
        from medkit.cli.paper_tables import show_paper_table
        from medkit.reporting.paper_tables import paper_tables
        from medkit.reporting.run_results import RunResults
        from medkit.runs.folder import RunFolder

        if folder and devices == 1 and place().is_main and RunFolder(folder).read_json("state.json", {}).get("failed"):
            for table in paper_tables(RunResults.read(folder)):
                show_paper_table(table)
        raise
    except KeyboardInterrupt:
        from medkit.runs.folder import RunFolder

        if folder and RunFolder(folder).begun:
            other = devices > 1 and not RunFolder(folder).bound_to_ranks()
            hint = f"resumable: {go_on}{', or another number of ranks' if other else ''}"
            raise StoppedError("interrupted", hint=hint) from None
        raise StoppedError("interrupted before anything was written") from None


def _show_results(finished: Run) -> None:
    """The recipe's tables, a plain one for each stage that has none, and finally the report's path."""
    try:
        _print_results(finished)
    except BrokenPipeError:  # nobody is reading any more; the run is complete all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno != errno.EIO or not interrupt.leave_terminal():
            raise


def _print_results(finished: Run) -> None:
    from medkit.cli.paper_tables import show_paper_table
    from medkit.reporting.paper_tables import paper_tables
    from medkit.reporting.run_results import RunResults
    from medkit.reporting.tables import SEEN_MARK, as_text, results_table, variants
    from medkit.runs.seen import banners

    tables = paper_tables(RunResults.read(finished.folder))
    for name, stages in variants(finished.results).items():
        own = results_table(name, stages, finished.results)
        if own.heads and name not in [table.stage for table in tables]:
            show_table(*as_text(own), name)
    for table in tables:
        show_paper_table(table)
    for text in banners(finished.folder):
        print(f"{SEEN_MARK} {text}")
    print(finished.folder / "report.html", flush=True)
    with suppress(OSError):  # nobody reads
        print(f"next: {_next_command(finished)}", file=sys.stderr, flush=True)


def _next_command(finished: Run) -> str:
    """What one mostly does with a run that has ended; one that has lost its weights can only be made anew."""
    from medkit.runs.folder import RunFolder
    from medkit.runs.lost import train_again, without_weights

    folder = RunFolder(finished.folder)
    if without_weights(folder, finished.recipe.stages):
        return train_again(folder)
    if finished.recipe.stages[-1].fitted:
        return f"medkit embed {typed(finished.folder)} --input MANIFEST --output FEATURES.parquet"
    return f"medkit predict {typed(finished.folder)} --input SCAN --output FOLDER"
