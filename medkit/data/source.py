"""Cases listed in a manifest: a CSV or Parquet file, one row a scan."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medkit.data.files import place, stamp
from medkit.errors import InputError, Problems, did_you_mean
from medkit.protocols import Case, Record


@dataclass
class ManifestSource:
    """Cases of a CSV or Parquet manifest; columns are named by the arguments.

    Parameters
    ----------
    path:
        The manifest.
    image:
        Column with the image: DICOM folder, ``FOLDER#SERIES_UID``, series list (.txt) or NIfTI file.
    mask:
        Column with the mask, on the image's grid; an empty cell is a normal scan. Absent column: no masks.
    target:
        Column with the paired image of a denoising task, on the image's grid. Absent column: none.
    patient:
        Column with the patient; required, as splits must not share patients.
    center:
        Column with the centre.
    fold:
        Column with the fold.
    label:
        Column with a label (a number); without one it follows from the mask.
    case:
        Column with a unique name of each row; default: the image's path.
    root:
        Folder that relative paths start from; default: the manifest's own.
    check_pairs:
        Look at image and target for shifts, wrong slices and offsets (``medkit.data.pairs``). Off for targets that are
        meant to look different.
    space:
        Whose patients these are, such as the hospital's name. Equal patients of two manifests are one patient (who may
        not be trained on and tested on), unless their spaces differ.
    """

    path: Path
    image: str = "image"
    mask: str = "mask"
    target: str = "target"
    patient: str = "patient"
    center: str | None = "center"
    fold: str | None = "fold"
    label: str | None = None
    case: str | None = None
    root: Path | None = None
    check_pairs: bool = True
    space: str | None = None

    def __post_init__(self) -> None:
        self._rows: dict[str, dict[str, Any]] | None = None
        self._cases: list[Case] = []

    def cases(self) -> Sequence[Case]:
        if self._rows is None:
            self._read()
        return self._cases

    def _read(self) -> None:
        table = read_table(Path(self.path))
        columns = list(table.columns)
        for name in (self.image, self.patient, self.label, self.case):
            if name is not None and name not in columns:
                hint = did_you_mean(name, columns) or f"columns: {', '.join(columns)}"
                raise InputError(f"the manifest has no column '{name}'", str(self.path), hint)
        root = Path(self.root) if self.root is not None else Path(self.path).parent
        rows: dict[str, dict[str, Any]] = {}
        problems: list[InputError] = []
        cases = []
        used = {self.image, self.mask, self.target, self.patient, self.center, self.fold, self.label, self.case}
        for number, row in enumerate(table.to_dict("records"), 2):
            row = {str(key): None if _missing(value) else value for key, value in row.items()}
            where = f"{self.path}:{number}"
            if row[self.patient] is None:
                problems.append(InputError(f"no value in '{self.patient}'", where, "every row needs its patient"))
                continue
            if row[self.image] is None:
                problems.append(InputError(f"no value in '{self.image}'", where))
                continue
            for name in (self.image, self.mask, self.target):
                if row.get(name) is not None:
                    row[name] = str(root / str(row[name]))
                    if not os.path.exists(place(row[name])[0]):
                        problems.append(InputError(f"{name}: there is no '{row[name]}'", where))
            key = str(row[self.case]) if self.case is not None else str(row[self.image])
            if key in rows:
                problems.append(InputError(f"case '{key}' is listed twice", where))
                continue
            rows[key] = row
            label = self._label(row, where, problems)
            fields = {k: v for k, v in row.items() if k not in used}
            center = _text(row.get(self.center)) if self.center else ""
            fold = _text(row.get(self.fold)) if self.fold else ""
            cases.append(Case(key, _text(row[self.patient]), center, fold, label, fields))
            if len(problems) >= 10:
                break
        if problems:
            raise Problems(problems)
        if not cases:
            raise InputError("the manifest has no rows", str(self.path))
        self._rows, self._cases = rows, cases

    def _label(self, row: dict[str, Any], where: str, problems: list[InputError]) -> float | None:
        if self.label is not None:
            try:
                return None if row[self.label] is None else float(row[self.label])
            except (TypeError, ValueError):
                problems.append(InputError(f"{self.label}: '{row[self.label]}' is no number", where))
                return None
        return 0.0 if self.mask in row and row[self.mask] is None else None

    def load(self, case: Case) -> Record:
        from medkit.data.io import read_volume
        from medkit.data.pairs import check_pair

        if self._rows is None:
            self._read()
        assert self._rows is not None
        row = self._rows[case.id]
        image = read_volume(row[self.image])
        record = Record(image)
        if self.mask in row:
            if row[self.mask] is None:
                record.mask = image.like(np.zeros(image.voxels.shape, np.uint8))
            else:
                record.mask = self._read_mask(row, image)
        if row.get(self.target) is not None:
            record.target = read_volume(row[self.target])
            difference = image.same_grid(record.target)
            if difference:
                raise InputError(f"target and image lie on different grids ({difference})", row[self.target])
            if self.check_pairs:
                check_pair(image, record.target, row[self.target])
        return record

    def _read_mask(self, row: dict[str, Any], image: Any) -> Any:
        from medkit.data.io import read_volume

        mask = read_volume(row[self.mask])
        difference = image.same_grid(mask)
        if difference:
            raise InputError(
                f"mask and image '{row[self.image]}' lie on different grids ({difference})", row[self.mask]
            )
        values = np.unique(mask.voxels)
        if np.array_equal(values, [0, 255]) or np.array_equal(values, [255]):
            mask = mask.like((mask.voxels > 0).astype(np.uint8))
        elif not np.isin(values, (0, 1)).all():
            raise InputError(f"a mask holds 0 and 1 (or 255), this one {values[:6].tolist()}", row[self.mask])
        return mask

    def identity(self, case: Case) -> str:
        if self._rows is None:
            self._read()
        assert self._rows is not None
        row = self._rows[case.id]
        roles = [name for name in (self.image, self.mask, self.target) if name in row]
        return "\n".join(f"{name} {'none' if row[name] is None else stamp(row[name])}" for name in roles)


def read_table(path: Path) -> Any:
    """A CSV or Parquet file as a pandas table; numbers that name things stay as they were written."""
    import pandas

    if not path.is_file():
        raise InputError("there is no such manifest", str(path))
    try:
        if path.suffix == ".parquet":
            return pandas.read_parquet(path)
        return pandas.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"the manifest cannot be read ({error})", str(path), "CSV or Parquet with a header") from error


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and value != value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
