"""MURA's folders as a manifest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from medkit.data.manifest import read_manifest
from medkit.data.splits import assign_folds
from medkit.errors import InputError

SHARES = {"train": 0.9, "val": 0.1}
STUDY = re.compile(r"study(\d+)_(positive|negative)")
TOLD = (
    "the label is the study's, abnormal or not: an image of an abnormal study may look normal",
    "the challenge's test set is not public: 'valid' is the test fold here, and val a tenth of the patients of 'train'",
)


def mura(folder: Path, seed: int = 0) -> Any:
    """Manifest of MURA 1.1: arm radiographs, one row per image, labelled by study as abnormal (1) or normal (0).

    In ``train`` and ``valid``, images are ``XR_ELBOW/patient00011/study1_negative/image1.png`` (Rajpurkar et al.,
    arXiv:1712.06957: seven body parts, and no patient in both sets). ``train_image_paths.csv`` and
    ``valid_image_paths.csv``, if present, list the images, without a header, by their path from the parent folder. The
    fold ``test`` is ``valid``; ``val`` is drawn from ``train`` by patient, stratified by label.

    Returns
    -------
    pandas.DataFrame
        case, patient, center, fold, image, label, body_part, study. ``attrs["told"]`` has messages for the user.

    Raises
    ------
    InputError
        if there is no image, a patient is in both sets, or a study is both normal and abnormal.
    """
    import pandas

    folder = Path(folder)
    rows: list[dict[str, Any]] = []
    labels: dict[str, int] = {}
    folds: dict[str, str] = {}
    for name in ("train", "valid"):
        for path in sorted((folder / name).glob("XR_*/patient*/study*/[!.]*.png")):
            part, patient, study = path.relative_to(folder / name).parts[:3]
            match = STUDY.fullmatch(study)
            if match is None:
                raise InputError("this is not named like 'study1_positive' or 'study1_negative'", str(path.parent))
            label, key = int(match[2] == "positive"), f"{name}/{part}/{patient}/study{match[1]}"
            if labels.setdefault(key, label) != label:
                raise InputError(f"study {match[1]} of {patient} is both normal and abnormal", str(path.parent.parent))
            if folds.setdefault(patient, name) != name:
                raise InputError(f"{patient} is in train and in valid", str(path), "keep each patient in one of them")
            rows.append(
                {
                    "case": path.relative_to(folder).with_suffix("").as_posix(),
                    "patient": patient,
                    "center": "mura",
                    "fold": "test",
                    "image": str(path.resolve()),
                    "label": label,
                    "body_part": part.removeprefix("XR_").lower(),
                    "study": f"{part}/{patient}/study{match[1]}",
                }
            )
    if not rows:
        wanted = "it has to hold files like train/XR_ELBOW/patient00011/study1_negative/image1.png"
        raise InputError("there is no image of MURA here", str(folder), wanted)
    own = [row for row in rows if folds[row["patient"]] == "train"]
    drawn = assign_folds([row["patient"] for row in own], [row["label"] for row in own], SHARES, seed)
    for row, fold in zip(own, drawn, strict=True):
        row["fold"] = fold
    table = pandas.DataFrame(rows)
    table.attrs["told"] = [*_missing(folder, {row["case"] for row in rows}), *TOLD]
    return table


def _missing(folder: Path, cases: set[str]) -> list[str]:
    """Messages on how many of the listed images are missing."""
    said = []
    for name in ("train", "valid"):
        path = folder / f"{name}_image_paths.csv"
        if not path.is_file():
            continue
        table = read_manifest(path, "list of images")
        first = table.column_names[0]  # without a header, the first path is read as one
        listed = [Path(text).parts[1:] for text in (first, *table[first].to_pylist()) if text]
        missing = [parts for parts in listed if Path(*parts).with_suffix("").as_posix() not in cases]
        if missing:
            example = Path(*missing[0]).as_posix()
            said.append(f"{len(missing)} of {len(listed)} images in {path.name} are missing, such as {example}")
    return said
