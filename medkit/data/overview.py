"""What a manifest says about its cases as a whole, as a recipe needs it: folds, labels, sizes and spacings."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medkit.data.io import read_volume
from medkit.data.label_kinds import label_columns, label_kind
from medkit.data.manifest import numbers, read_manifest, texts
from medkit.errors import InputError
from medkit.protocols.labels import Labels


@dataclass
class Overview:
    """A summary of a manifest.

    Attributes
    ----------
    folds:
        Number of cases in each fold.
    labels:
        (n,) numbers, nan if missing; None if there is no such column, or several classes per case.
    said:
        What the labels are, unless they are plain numbers.
    flags:
        (n,K) which of several classes cases have; None for any other labels.
    masks, targets:
        How many cases have one.
    slices, rows, columns, pixel_mm:
        (n,), one per case, or those of the first image for all if the manifest does not have them.
    hu:
        Whether the first image is in HU.
    low, high:
        Range of the first image's values.
    """

    path: Path
    columns_there: list[str]
    patients: int
    folds: Counter[str]
    fold_of: list[str]
    labels: np.ndarray | None
    said: Labels | None
    flags: np.ndarray | None
    masks: int
    targets: int
    slices: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    pixel_mm: np.ndarray
    hu: bool
    low: float
    high: float

    def __len__(self) -> int:
        return len(self.slices)

    @property
    def known(self) -> np.ndarray:
        """The labels that are not missing."""
        return np.zeros(0) if self.labels is None else self.labels[~np.isnan(self.labels)]

    @property
    def flat(self) -> bool:
        """Whether cases are single images."""
        return bool(np.median(self.slices) == 1)


def overview(path: Path, label: str, fold: str) -> Overview:
    """Inspect a manifest and its first image; ``label`` is a column, or several separated by commas.

    Raises
    ------
    InputError
        if it has no folds or no patients, its first image cannot be read, or a label is not valid.
    """
    table = read_manifest(path)
    names = table.column_names
    for name in ("image", "patient"):
        if name not in names:
            raise InputError(f"the manifest has no column '{name}'", str(path), f"columns: {', '.join(names)}")
    if fold not in names:
        raise InputError(f"the manifest has no column '{fold}'", str(path), f"medkit data split {path} writes one")
    if not len(table):
        raise InputError("the manifest has no rows", str(path), "write one row per scan")
    cells = {name: texts(table, name, str(path)) for name in ("image", "patient", fold)}
    for name, column in cells.items():
        if column.null_count:
            row = column.to_pylist().index(None)
            raise InputError(f"no value in '{name}'", f"{path}:{row + 2}", "every row needs one")
    labels = said = flags = None
    if all(name in names for name in label_columns(label, names)):
        found = label_kind(table, label_columns(label, names), path)
        if not np.isnan(found.values).all():
            said = found.labels
            labels, flags = (found.values, None) if found.values.ndim == 1 else (None, found.values)
    first = read_volume(path.parent / cells["image"][0].as_py())
    shape = dict(zip(("slices", "rows", "columns"), first.voxels.shape[:3], strict=True))
    mm = float(np.linalg.norm(first.affine[:3, 1])) if first.spacing_known else float("nan")
    sizes = {name: _numbers(table, name, value) for name, value in (*shape.items(), ("pixel_mm", mm))}
    folds = cells[fold].to_pylist()
    return Overview(
        path,
        names,
        len(set(cells["patient"].to_pylist())),
        Counter(folds),
        folds,
        labels,
        said,
        flags,
        _count(table, "mask", path),
        _count(table, "target", path),
        **sizes,
        hu=first.units == "HU",
        low=float(first.voxels.min()),
        high=float(first.voxels.max()),
    )


def _numbers(table: Any, name: str, otherwise: float) -> np.ndarray:
    if name not in table.column_names:
        return np.full(len(table), float(otherwise))
    values = numbers(table, name, "")[0]
    return np.where(np.isnan(values), float(otherwise), values)


def _count(table: Any, name: str, path: Path) -> int:
    cells = texts(table, name, str(path))
    return 0 if cells is None else len(cells) - cells.null_count
