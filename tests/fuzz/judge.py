"""What medkit may do with a damaged input: refuse it in words that name the file, or read it right. Nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from fuzz import mutations
from fuzz.mutations import BYTES, DETAILS, Program

from medkit.data.volume import Volume
from medkit.errors import MedkitError

REFUSED, READ = "refused", "read"


class Fault(AssertionError):
    """medkit did what it may not do."""


def kinds(name: str) -> tuple[str, ...]:
    """Operations that make sense for an input."""
    return BYTES if name.endswith(".gz") or name.startswith("png") else (*BYTES, *DETAILS)


def make(name: str, source: Path, program: Program) -> bytes:
    """The damaged input."""
    builders: dict[str, Callable[[Path, Program], bytes]] = {
        "dicom": mutations.dicom,
        "nifti": mutations.nifti,
        "csv": mutations.table,
        "parquet": mutations.table,
        "recipe": mutations.recipe,
    }
    kind = name.split("-")[0]
    return builders[kind](source, program) if kind in builders else mutations.damaged(source.read_bytes(), program)


def judge(name: str, source: Path, program: Program, folder: Path) -> str:
    """Write the damaged input into ``folder``, have medkit read it, and say how it ended.

    Raises
    ------
    Fault
        for any exception that is no MedkitError, an error that does not name the file, and broken data taken for whole.
    """
    data = make(name, source, program)
    path = folder / source.name
    path.write_bytes(data)
    try:
        return _judge(name, source, path, data, program)
    finally:
        path.unlink(missing_ok=True)


def _judge(name: str, source: Path, path: Path, data: bytes, program: Program) -> str:
    try:
        if name.startswith("recipe"):
            found: object = _recipe(path)
        elif name in ("csv", "parquet"):
            found = _table(path, source.parent)
        else:
            found = _image(path)
    except MedkitError as error:
        if path.name not in str(error):
            raise Fault(f"the error does not name the file: {error}") from error
        if len(str(error)) > 20_000:
            raise Fault(f"an error of {len(str(error))} characters") from error
        return REFUSED
    except Exception as error:
        raise Fault(f"{type(error).__name__}: {str(error)[:300]}") from error
    if isinstance(found, Volume):
        _whole(name, source, found, data, program)
    return READ


def _whole(name: str, source: Path, found: Volume, data: bytes, program: Program) -> None:
    """What was read has to be sound in itself; where the format has checksums or a length, also complete."""
    from medkit.data.io import read_volume

    if not found.voxels.size or not np.isfinite(found.voxels).all():
        raise Fault(f"voxels of shape {found.voxels.shape}, not all finite")
    if not np.isfinite(found.affine).all():
        raise Fault("an affine that is not finite")
    if data == source.read_bytes():
        return
    only_bytes = all(op.kind in BYTES for op in program)
    if only_bytes and (name.endswith(".gz") or name.startswith("png")):
        true = read_volume(source)
        if true.voxels.shape != found.voxels.shape or not np.array_equal(true.voxels, found.voxels):
            raise Fault("other voxels in a format that has checksums")
    cut = only_bytes and all(op.kind == "cut" for op in program)
    if cut:
        true = read_volume(source)
        if not np.array_equal(true.voxels, found.voxels):
            raise Fault("a file that was cut short was read")


def _image(path: Path) -> Volume:
    from medkit.data.io import read_volume

    return read_volume(path)


def _table(path: Path, root: Path) -> list[str]:
    from medkit.data.source import ManifestSource

    cases = list(ManifestSource(str(path), root=str(root), case="case", label="sick").cases())
    for case in cases:
        if not case.patient.strip() or case.patient != case.patient.strip():
            raise Fault(f"a patient named {case.patient!r}")
        if case.label is not None and not np.isfinite(case.label):
            raise Fault(f"a label of {case.label}")
    return [case.id for case in cases]


def _recipe(path: Path) -> object:
    from medkit.recipe import load_recipe, recipe_from

    recipe = load_recipe(path)
    resolved = recipe.resolved()
    if recipe_from(resolved).resolved() != resolved:
        raise Fault("the resolved recipe is not what it is read back as")
    return recipe
