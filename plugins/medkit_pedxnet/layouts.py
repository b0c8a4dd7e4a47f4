"""The folders of public sets of children's radiographs as manifests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medkit.api import InputError
from medkit.data.source import read_table
from medkit_pedxnet.listed import ListedSource
from medkit_pedxnet.sources_public import AGE, PATIENT, GrazWrists, RSNABoneAge

FOLDS = {"train": "train", "val": "valid", "test": "test"}
"""Folds of the RSNA's set, and the part of a folder's name that says which it is of."""
COLUMNS = dict(zip(FOLDS, zip(PATIENT, AGE, strict=True), strict=True))
"""The columns by which each published table is known."""
DEPTH = 3
ONE_IMAGE = "each image counts as a patient: which images are of one child is not published"


def bone_age(folder: Path) -> Any:
    """Manifest of the RSNA Pediatric Bone Age Challenge of 2017 (:class:`medkit_pedxnet.sources_public.RSNABoneAge`).

    The three published tables are known by their columns, wherever they lie up to three folders deep: ``id, boneage,
    male`` for training, ``Image ID, male, Bone Age (months)`` for validation, ``Case ID, Sex, Ground truth bone age
    (months)`` for test, which is published as a table of Excel and has to be saved as CSV. Images lie in folders whose
    names say of which set they are (``boneage-training-dataset``, ``boneage-validation-dataset-1`` and ``-2``).

    Returns
    -------
    pandas.DataFrame
        case, patient, center, fold, image, label (months), age_months, sex. ``attrs["told"]`` says what is missing.

    Raises
    ------
    InputError
        if no table is here, two are of one set, or one has no images.
    """
    folder = Path(folder)
    tables: dict[str, Path] = {}
    for path in _below(folder, "*.csv"):
        fold = _fold_of(path)
        if fold is None:
            continue
        if fold in tables:
            what = f"two tables of the set '{fold}' are here, {tables[fold].name} and {path.name}"
            raise InputError(what, str(path), "leave one in the folder")
        tables[fold] = path
    if not tables:
        wanted = "; ".join(", ".join(columns) for columns in COLUMNS.values())
        raise InputError("no table of the bone age challenge is here", str(folder), f"their columns: {wanted}")
    images = {fold: _images(folder, fold, path) for fold, path in tables.items()}
    names = {fold: str(path.relative_to(folder)) for fold, path in tables.items()}
    source = RSNABoneAge(folder, names, {fold: str(place.relative_to(folder)) for fold, place in images.items()})
    told = [f"no table of the set '{fold}' is here" for fold in FOLDS if fold not in tables]
    if "test" not in tables and any(_below(folder, "*.xlsx")):
        told[-1] += ": save the one of Excel as CSV"
    return _table(source, "rsna_bone_age", [*told, ONE_IMAGE])


def wrists(folder: Path) -> Any:
    """Manifest of GRAZPEDWRI-DX (:class:`medkit_pedxnet.sources_public.GrazWrists`).

    ``dataset.csv`` and ``FILESTEM.png`` anywhere below (Nagy et al., Sci Data 2022;9:222). Folds are drawn by patient,
    stratified by fracture.

    Returns
    -------
    pandas.DataFrame
        case, patient, center, fold, image, label (fracture_visible), and the table's other columns.

    Raises
    ------
    InputError
        if the table, a column of it or an image is not there.
    """
    source = GrazWrists(Path(folder))
    made = _table(source, "grazpedwri", ["an empty cell of 'fracture_visible' is taken for no fracture"])
    more = read_table(Path(folder) / source.csv)
    for name in more.columns:
        if name not in ("filestem", *made.columns):
            made[name] = more[name].tolist()
    return made


def _table(source: ListedSource, center: str, told: list[str]) -> Any:
    import pandas

    rows = [
        {
            "case": case.id,
            "patient": case.patient,
            "center": center,
            "fold": case.fold,
            "image": str(Path(source.listed.file(case)).resolve()),
            "label": case.label,
            **case.fields,
        }
        for case in source.cases()
    ]
    table = pandas.DataFrame(rows)
    table.attrs["told"] = told
    return table


def _fold_of(path: Path) -> str | None:
    """The set that a table is of, by its columns; None for another table."""
    names = set(read_table(path).columns)
    return next((fold for fold, columns in COLUMNS.items() if names.issuperset(columns)), None)


def _images(folder: Path, fold: str, table: Path) -> Path:
    """The folder with the images of a set: itself, or folders in it."""
    word = FOLDS[fold]
    for place in _below(folder, "*/"):
        if word in place.name.lower() and (any(place.glob("*.png")) or any(place.glob("*/*.png"))):
            return place
    what = f"no folder named as one of '{word}' has PNG files, and {table.name} is here"
    raise InputError(what, str(folder), "unpack the images beside their table, in the folder they come in")


def _below(folder: Path, pattern: str) -> Iterator[Path]:
    """What lies at most so deep, the nearest first."""
    for depth in range(DEPTH):
        yield from sorted(path for path in folder.glob("*/" * depth + pattern) if not path.name.startswith("."))
