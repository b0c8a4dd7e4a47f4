"""``medkit prepare``: fill the cache ahead of a run, on this machine or on a cluster."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from medkit.cli.components import load_files
from medkit.cli.options import PluginFile, Set
from medkit.errors import InputError


def prepare(
    recipe: Annotated[str, typer.Argument(help="Path, or name of a bundled recipe.")],
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, help="Processes of one thread each; default on this machine: one per core."),
    ] = None,
    on: Annotated[str, typer.Option("--on", metavar="local|slurm|ray", help="Where they run.")] = "local",
    slurm: Annotated[
        list[str] | None, typer.Option("--slurm", metavar="OPTION", help="For sbatch, such as --slurm=--partition=cpu.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the end; --no-wait is for --on slurm.")
    ] = True,
    set: Set = None,
    plugin: PluginFile = None,
    part: Annotated[str | None, typer.Option("--part", hidden=True)] = None,
    of: Annotated[Path | None, typer.Option("--of", hidden=True)] = None,
) -> None:
    """Prepare the cases of a recipe and keep them, so that runs find them ready.

    Cases that are already prepared are left out, so it can be called again at any time. Those that cannot be prepared
    are named at the end, with exit code 1.

    Example: medkit prepare ich_seg --jobs 8
    """
    load_files(plugin)
    from medkit.recipe import load_recipe
    from medkit.runs import prepare as preparing

    checked = load_recipe(recipe, set=set or [])
    if part is not None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # what has been prepared is kept before it ends
        number, parts = _part(part)
        if preparing.prepare_part(checked, number, parts, of, lambda text: print(text, file=sys.stderr)):
            raise typer.Exit(1)
        return
    from medkit.data.processes import default_jobs
    from medkit.engine.progress import Progress
    from medkit.executors import executor_of

    if jobs is None and on != "local":
        raise InputError(f"--on {on} does not know how many processes to start", "--jobs", "give a number")
    if not wait and on != "slurm":
        raise InputError("only SLURM carries on when this command ends", "--no-wait", "use it with --on slurm")
    parts = jobs or default_jobs()
    arguments = [recipe, *(word for text in set or [] for word in ("--set", text))]
    arguments += [word for file in plugin or [] for word in ("--plugin", file)]
    executor = executor_of(on, parts, slurm or [])
    with Progress() as progress:
        count = preparing.prepare(checked, arguments, parts, executor, progress, wait=wait)
    if wait:
        print(f"{count} cases prepared" if count != 1 else "1 case prepared")


def _part(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if found is None or int(found[1]) >= int(found[2]):
        raise InputError(f"'{text}' is not a part", "--part", "the third of eight is 2/8")
    return int(found[1]), int(found[2])
