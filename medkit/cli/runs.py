"""``medkit run`` and ``medkit resume``: on one process, or on several that one command starts and ends together."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from medkit.cli.components import load_files
from medkit.cli.options import Device, Devices, Jobs, PluginFile, RunDir, Set, Skip, Track, Workers
from medkit.cli.output import show_table
from medkit.engine import interrupt
from medkit.engine.ranks import Place, agreed, place
from medkit.errors import InputError, RunError, StoppedError

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
    dry: Annotated[bool, typer.Option("--dry", help="Build everything, run one batch a stage, keep nothing.")] = False,
    devices: Devices = 1,
    device: Device = None,
    precision: Annotated[str, typer.Option("--precision", help="fp32 or bf16.")] = "fp32",
    seed: Annotated[int | None, typer.Option("--seed", help="Overrides the recipe's seed.")] = None,
    jobs: Jobs = None,
    workers: Workers = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on in DIR if this run was begun there.")] = False,
    track: Track = None,
) -> None:
    """Train the stages of a recipe, evaluate every test split and write the report.

    Started on several ranks by srun or torchrun, it finds its place in their environment (docs/cluster.md).

    Example: medkit run ich_seg --out runs/first --set stages.pretext.epochs=2
    """
    if dry:
        from medkit.runs.dry import dry_run

        load_files(plugin)
        columns, rows = dry_run(recipe, set=set or [], skip=skip or [], device=device, precision=precision)
        show_table(columns, rows, "one batch a stage; no run folder was written")
        return
    here = _place(devices)
    _load_files(here, plugin, device)
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

            options = [*_repeat("--set", set), *_repeat("--skip", skip), *_repeat("--plugin", plugin)]
            options += [
                *_given("--device", device),
                "--precision",
                precision,
                *_given("--seed", seed),
                *_repeat("--track", track),
            ]
            options += [*_given("--jobs", jobs), *_given("--workers", workers)]
            launch(devices, ["run", recipe, "--out", str(out), *options, *(["--resume"] if resume else [])])
            return
        from medkit.front import run as start

        words: dict[str, Any] = {"precision": precision, "device": device, "resume": resume, "track": track or []}
        words |= {"jobs": jobs, "workers": _workers(workers)}
        if isinstance(checked, str):
            words |= {"set": set or [], "skip": skip or []}
        finished = start(checked, out, seed=seed, **words)
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
) -> None:
    """Go on with a run that was interrupted, from its last checkpoint, as if it had never stopped.

    Example: medkit resume runs/first
    """
    here = _place(devices)
    _load_files(here, plugin, device)
    with _resumable(folder, devices):
        if devices > 1:
            from medkit.engine.launch import launch

            options = [*_repeat("--plugin", plugin), *_given("--device", device), *_repeat("--track", track)]
            options += [*_given("--jobs", jobs), *_given("--workers", workers)]
            launch(devices, ["resume", str(folder), *options])
            return
        from medkit.front import resume as go_on

        finished = go_on(folder, device=device, jobs=jobs, workers=_workers(workers), track=track or [])
        if here.is_main:
            _show_results(finished)


def _workers(text: str | None) -> int | Literal["auto"] | None:
    if text is None or text == "auto":
        return text  # type: ignore[return-value]
    if not text.isascii() or not text.isdigit() or int(text) > 256:
        raise InputError(f"'{text}' is no number of processes", "--workers", "a number from 0 to 256, or auto")
    return int(text)


def _place(devices: int) -> Place:
    """The place of this process among ranks that somebody else has started."""
    here = place()
    if here.world_size > 1 and devices > 1:
        what = f"{here.by} has started {here.world_size} ranks, of which this is one"
        raise InputError(what, "--devices", "leave --devices out: it starts ranks of its own")
    return here


def _load_files(here: Place, plugin: list[str] | None, device: str | None) -> None:
    """Load plugin files; of several ranks, one says what is wrong with them."""
    if here.world_size == 1 or not plugin:
        load_files(plugin)
        return
    from medkit.engine.runtime import Runtime

    agreed(Runtime.start(device=device).strategy, lambda: load_files(plugin))


@contextmanager
def _resumable(folder: Path | None, devices: int) -> Iterator[None]:
    """Signals say how to go on, and exit with 130; a run that lost stages shows the tables of the rest."""
    go_on = f"medkit resume {folder}" + (f" --devices {devices}" if devices > 1 else "")
    interrupt.begin(f"interrupted at once; resumable: {go_on}")
    try:
        yield
    except RunError:
        from medkit.cli.layouts import show_layout
        from medkit.reporting.paper_tables import laid_out
        from medkit.runs.folder import RunFolder

        if folder and devices == 1 and place().is_main and RunFolder(folder).read_json("state.json", {}).get("failed"):
            for table in laid_out(folder):
                show_layout(table)
        raise
    except KeyboardInterrupt:
        from medkit.runs.folder import RunFolder

        if folder and RunFolder(folder).begun:
            raise StoppedError("interrupted", hint=f"resumable: {go_on}") from None
        raise StoppedError("interrupted before anything was written") from None


def _show_results(finished: Run) -> None:
    """The recipe's tables, a plain one of each stage that has none, and at last the report's path."""
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


def _given(option: str, value: object) -> list[str]:
    return [] if value is None else [option, str(value)]
