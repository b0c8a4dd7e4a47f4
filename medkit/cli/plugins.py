"""``medkit plugins``, ``doctor`` and ``new``: what is installed, and a package to start from."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from medkit.cli.options import Json
from medkit.cli.output import show_json, show_table
from medkit.errors import InputError, did_you_mean
from medkit.paths import typed

new = typer.Typer(help="Write the start of something of your own.", no_args_is_help=True, rich_markup_mode=None)


def plugins(
    action: Annotated[str | None, typer.Argument(help="'why NAME' or 'freeze'.")] = None,
    name: Annotated[str | None, typer.Argument(help="A plugin, for 'why'.")] = None,
    json: Json = False,
) -> None:
    """List the plugins; 'why NAME' says why one was left out, 'freeze' prints requirement lines.

    Example: medkit plugins why turns
    """
    from medkit.registry import plugins as plugin

    infos = plugin.plugins()
    if action == "freeze":
        print("\n".join(plugin.freeze()))
        return
    if action == "why":
        known = {info.name: info for info in infos}
        if name is None:
            raise InputError("which plugin?", hint=f"medkit plugins why NAME; plugins: {', '.join(known)}")
        if name not in known:
            raise InputError(
                f"no plugin is named '{name}'", hint=did_you_mean(name, known) or f"plugins: {', '.join(known)}"
            )
        info = known[name]
        print(f"plugin '{info.name}' ({info.distribution} {info.version}): {'loaded' if info.ok else info.reason}")
        if info.traceback:
            print(info.traceback)
        return
    if action is not None:
        raise InputError(f"'{action}' is not an action", hint="'why NAME' or 'freeze'")
    if json:
        show_json([{k: v for k, v in vars(info).items() if k != "traceback"} for info in infos])
        return
    rows = [(i.name, i.distribution, i.version, sum(i.counts.values()), "ok" if i.ok else i.reason) for i in infos]
    show_table(["plugin", "distribution", "version", "components", "state"], rows)


def doctor(json: Json = False) -> None:
    """Look over this installation (versions, device, memory, disk, image decoders, plugins), and say what to fix.

    Example: medkit doctor
    """
    from importlib import metadata

    import medkit
    from medkit.paths import cache_folder
    from medkit.registry import plugins as plugin

    rows: list[tuple[str, str, str]] = [
        ("medkit", medkit.__version__, ""),
        ("python", platform.python_version(), "" if sys.version_info >= (3, 11) else "3.11 or newer is needed"),
    ]
    for name in ("torch", "torchvision", "timm", "segmentation-models-pytorch", "kornia", "albumentations", "pydicom"):
        try:
            rows.append((name, metadata.version(name), ""))
        except metadata.PackageNotFoundError:
            rows.append((name, "missing", f"pip install {name}"))
    try:
        import torch

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU only"
        rows.append(
            ("device", device, "" if torch.cuda.is_available() else "training at the thesis' sizes needs a GPU")
        )
    except ImportError as error:
        rows.append(("device", "unknown", f"torch cannot be imported: {error}"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    rows.append(("cores, memory", f"{os.cpu_count()}, {memory:.0f} GB", "" if memory > 4 else "the examples need 4 GB"))
    cache = cache_folder()
    there = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(there).free / 2**30
    rows.append(("cache", f"{cache} ({free:.0f} GB free)", "" if free > 2 else "set MEDKIT_CACHE to a larger disk"))
    for name, package in (("gdcm", "python-gdcm"), ("jpeg_ls", "pyjpegls"), ("openjpeg", "pylibjpeg-openjpeg")):
        import importlib.util

        found = importlib.util.find_spec(name) is not None
        rows.append((f"decoder {name}", "yes" if found else "no", "" if found else f"pip install {package}"))
    for info in plugin.plugins():
        state = f"{sum(info.counts.values())} components" if info.ok else "left out"
        rows.append((f"plugin {info.name}", state, "" if info.ok else f"{info.reason}: medkit plugins why {info.name}"))
    if json:
        show_json([{"what": a, "found": b, "fix": c} for a, b, c in rows])
    else:
        show_table(["what", "found", "to fix"], rows)


@new.callback()
def _new() -> None:
    """Write the start of something of your own."""


@new.command("plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(help="A Python name, such as turns.")],
    out: Annotated[Path, typer.Option("--out", help="Where to make the package's folder.")] = Path("."),
) -> None:
    """Write a plugin package with a working pretext, its test and a recipe, ready to be installed.

    Example: medkit new plugin turns && pip install -e medkit-turns
    """
    from medkit.cli.new_plugin import write_plugin

    folder = write_plugin(name, out)
    there = typed(folder / "recipes" / f"{name}.yaml")
    print(f"written: {folder}\nnext: pip install -e {typed(folder)} && medkit run {there}")


@new.command("recipe")
def new_recipe(
    task: Annotated[str, typer.Option("--task", metavar="TASK", help="segment, classify, regress, denoise or views.")],
    data: Annotated[Path, typer.Option("--data", metavar="MANIFEST", help="The cases, with a column of folds.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The recipe to write; default: TASK.yaml.")
    ] = None,
    label: Annotated[
        str, typer.Option("--label", metavar="COLUMN", help="Column of labels; several of 0 and 1: A,B,C.")
    ] = "label",
    unit: Annotated[str | None, typer.Option("--unit", help="Of the labels of a regression, such as months.")] = None,
    fold: Annotated[str, typer.Option("--fold", metavar="COLUMN", help="Column of folds.")] = "fold",
    size: Annotated[
        int | None, typer.Option("--size", min=32, help="Side of the images that are trained on, in pixels.")
    ] = None,
) -> None:
    """Write a recipe for your cases, with comments that say why each value is what it is.

    Example: medkit new recipe --task classify --data cases.csv && medkit run classify.yaml
    """
    from medkit.cli.new_recipe import write_recipe

    made = write_recipe(task, data, out or Path(f"{task}.yaml"), label=label, fold=fold, size=size, unit=unit)
    print(f"written: {made}\nnext: medkit check {typed(made)} --data && medkit run {typed(made)}")
