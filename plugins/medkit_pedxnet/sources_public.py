"""Public sets of children's radiographs: bone age of hands, fractures of wrists."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medkit.api import Case, InputError
from medkit.data.source import read_table
from medkit.data.splits import assign_folds
from medkit.errors import did_you_mean
from medkit_pedxnet.listed import SHOWN, Listed, ListedSource

SEXES = {"true": 1.0, "1": 1.0, "m": 1.0, "male": 1.0, "false": 0.0, "0": 0.0, "f": 0.0, "female": 0.0}
PATIENT = ("id", "Image ID", "Case ID")
AGE = ("boneage", "Bone Age (months)", "Ground truth bone age (months)")
SEX = ("male", "Sex")
OLDEST = 25.0  # a set whose largest bone age is below this has infants in months, or children in years


class RSNABoneAge(ListedSource):
    """RSNA Pediatric Bone Age Challenge (2017): hands as PNG; the label is the bone age in months.

    The field ``sex`` is 1 for boys and 0 for girls. The published tables name their columns differently: ``id``,
    ``boneage``, ``male`` for training; ``Image ID``, ``male``, ``Bone Age (months)`` for validation; ``Case ID``,
    ``Sex``, ``Ground truth bone age (months)`` for test. Each is recognised by any of its
    names. 12,611, 1,425 and 200 images.

    Parameters
    ----------
    root:
        Folder that the others are in.
    csv:
        Fold to its csv, such as ``{train: train.csv}``.
    images:
        Fold to its folder of images ``ID.png`` (or ``.dcm``); they may be in subfolders: validation has two.
    """

    space = "rsna_bone_age"

    def __init__(self, root: Path, csv: dict[str, str], images: dict[str, str]) -> None:
        if set(csv) != set(images) or not csv:
            raise InputError(f"'csv' names the folds {sorted(csv)}, 'images' {sorted(images)}")
        self.root, self.csv, self.images = Path(root), csv, images
        self._listed: Listed | None = None

    @property
    def listed(self) -> Listed:
        if self._listed is None:
            cases: list[Case] = []
            files: list[Path] = []
            for fold, name in self.csv.items():
                folder = self.root / self.images[fold]
                below = sorted(folder.glob("[!.]*/")) if folder.is_dir() else []
                for case in self.of(fold, self.root / name):
                    places = (folder, *below)
                    endings = [place / f"{case.patient}{suffix}" for place in places for suffix in (".png", ".dcm")]
                    files.append(next((file for file in endings if file.exists()), endings[0]))
                    cases.append(case)
            self._listed = Listed.of(str(self.root), cases, files)
            question_unit([float(case.label or 0) for case in cases], str(self.root))
        return self._listed

    def of(self, fold: str, csv: Path) -> list[Case]:
        """The cases of one fold."""
        rows = columns(csv, (PATIENT, AGE, SEX))
        sexes = [SEXES.get(text.strip().lower()) for text in rows[SEX[0]]]
        without(csv, "sex", [name for name, sex in zip(rows[PATIENT[0]], sexes, strict=True) if sex is None])
        ages = [number(text) for text in rows[AGE[0]]]
        without(csv, "bone age", [name for name, age in zip(rows[PATIENT[0]], ages, strict=True) if math.isnan(age)])
        return [
            Case(f"{fold}/{name}", name, "", fold, age, {"sex": sex, "age_months": age})
            for name, age, sex in zip(rows[PATIENT[0]], ages, sexes, strict=True)
        ]


class GrazWrists(ListedSource):
    """GRAZPEDWRI-DX: children's wrists as 16-bit PNG; label is ``fracture_visible`` (an empty cell means no fracture).

    The patient is the first part of ``filestem`` (``0001_1297860395_01_WRI-L1_M014``). Folds are drawn by patient,
    stratified by fracture.

    Parameters
    ----------
    path:
        The folder: ``dataset.csv`` and, anywhere below, ``FILESTEM.png``.
    csv:
        The table in it.
    shares:
        Shares of the patients for train, val and test.
    seed:
        Of the folds.
    """

    space = "grazpedwri"

    def __init__(
        self,
        path: Path,
        csv: str = "dataset.csv",
        shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
        seed: int = 0,
    ) -> None:
        self.path, self.csv, self.shares, self.seed = Path(path), csv, shares, seed
        self._listed: Listed | None = None

    @property
    def listed(self) -> Listed:
        if self._listed is None:
            table = self.path / self.csv
            rows = columns(table, ("filestem", "fracture_visible"))
            labels = [number(text) if text.strip() else 0.0 for text in rows["fracture_visible"]]
            stems = rows["filestem"]
            wrong = [stem for stem, y in zip(stems, labels, strict=True) if y not in (0, 1)]
            without(table, "fracture_visible of 0 or 1", wrong)
            unlike = [stem for stem in stems if "_" not in stem]
            without(table, "patient in their name (PATIENT_...)", unlike)
            patients = [stem.partition("_")[0] for stem in stems]
            shares = dict(zip(("train", "val", "test"), self.shares, strict=True))
            folds = assign_folds(patients, labels, shares, self.seed)
            files = {file.stem: file for file in sorted(self.path.rglob("[!.]*.png"))}
            rows_ = zip(stems, patients, labels, folds, strict=True)
            cases = [Case(stem, patient, "", fold, label) for stem, patient, label, fold in rows_]
            images = [files.get(stem, self.path / f"{stem}.png") for stem in stems]
            self._listed = Listed.of(str(table), cases, images)
        return self._listed


def columns(path: Path, names: Sequence[str | tuple[str, ...]]) -> dict[str, list[str]]:
    """Columns of a csv as texts, empty cells as ''; a column with several possible names is found under the first."""
    table: Any = read_table(path)
    chosen: dict[str, str] = {}
    for known in names:
        ways = (known,) if isinstance(known, str) else known
        name = next((way for way in ways if way in table.columns), ways[0])
        chosen[ways[0]] = name
        if name not in table.columns:
            hint = did_you_mean(name, table.columns) or f"columns: {', '.join(map(str, table.columns))}"
            raise InputError(f"the table has no column '{name}'", str(path), hint)
    return {key: table[name].fillna("").astype(str).str.strip().tolist() for key, name in chosen.items()}


def number(text: str) -> float:
    """A number, nan for anything else."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def without(path: Path, what: str, names: Sequence[str]) -> None:
    """Raise if any rows lack something, naming them."""
    if names:
        more = ", ..." if len(names) > SHOWN else ""
        raise InputError(f"{len(names)} rows have no {what}: {', '.join(names[:SHOWN])}{more}", str(path))


def question_unit(ages: Sequence[float], where: str) -> None:
    """Warn about ages in years where months are expected."""
    if max(ages) < OLDEST:
        warnings.warn(
            f"{where}: the largest bone age is {max(ages):g}: are these years? Months are expected", stacklevel=2
        )
