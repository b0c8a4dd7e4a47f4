"""FracAtlas's table, pictures and outlines as a manifest, with the PNG files it needs."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from medkit.data.jpeg import read_jpeg
from medkit.data.layouts import FOLDS, with_folds
from medkit.data.source import read_table
from medkit.data.whole import whole_folder
from medkit.errors import InputError

OUTLINES = Path("Annotations") / "COCO JSON" / "COCO_fracture_masks.json"
PLACES = {1: "Fractured", 0: "Non_fractured"}
SHOWN = 3
SHIFT = 4  # fractional bits of an outline's corners for cv2.fillPoly
Corners = list[np.ndarray]


def fracatlas(folder: Path, pictures: Path, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> Any:
    """Manifest of FracAtlas: radiographs of arm, leg, hip and shoulder, with labels and outlines of fractures.

    4,083 pictures from three hospitals in Bangladesh, 717 of them with fractures (Abedeen et al., Sci Data
    2023;10:521, doi:10.1038/s41597-023-02432-4). ``dataset.csv`` has ``image_id`` (``IMG0000019.jpg``), 0 or 1 for
    ``fractured``, body parts and views; pictures are in ``images/Fractured`` or ``images/Non_fractured``, as the table
    says; outlines in ``Annotations/COCO JSON/COCO_fracture_masks.json``. ``Utilities/Fracture Split`` has folds of the
    fractured ones only. The outlines of the YOLO files, which public code finds incomplete, are not used.

    JPEG is not read as an image, so the grey values of each picture are written as PNG into the new folder
    ``pictures``, with a mask of each fractured one.

    Returns
    -------
    pandas.DataFrame
        case, patient, center, fold, image, mask, label, published_fold, and the table's other columns.
        ``attrs["told"]`` has messages for the user.

    Raises
    ------
    InputError
        if the table or one of its pictures is missing, or one picture is both fractured and not; nothing is written
        then.
    """
    import pandas

    folder = Path(folder)
    table = _table(folder)
    names = table["image_id"].tolist()
    labels = [int(text) for text in table["fractured"]]
    files = [folder / "images" / PLACES[label] / name for name, label in zip(names, labels, strict=True)]
    missing = [file for file in files if not file.is_file()]
    if missing:
        more = f"{len(missing)} pictures of dataset.csv are missing, such as {missing[0].name}"
        raise InputError(more, str(folder), "get the whole set: doi.org/10.6084/m9.figshare.22363012")
    outlines, folds = _outlines(folder), _folds(folder)
    rows: list[dict[str, Any]] = []
    damaged: list[str] = []
    unlike: list[str] = []
    with whole_folder(pictures) as made:
        for number, (name, label, file) in enumerate(zip(names, labels, files, strict=True)):
            try:
                image = read_jpeg(file)
            except InputError as error:
                damaged.append(f"{name} ({error.what})")
                continue
            stem = Path(name).stem
            row: dict[str, Any] = {
                "case": stem,
                "patient": hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest(),
            }
            row |= {"center": "fracatlas", "fold": "", "image": _write(image, made, Path("images") / f"{stem}.png")}
            mask = _mask(outlines.get(name), image) if label else None
            if label and outlines and mask is None:
                unlike.append(name)
            row["mask"] = None if mask is None else _write(mask, made, Path("masks") / f"{stem}.png")
            row |= {"label": label, "published_fold": folds.get(name, "")}
            row |= {key: table[key][number] for key in table.columns if key not in ("image_id", "fractured")}
            rows.append(row)
            if progress is not None:
                progress(number + 1, len(names))
        if not rows:
            raise InputError(f"none of the pictures can be read, such as {damaged[0]}", str(folder))
        same = _patients(rows)
        for row in rows:
            for key in ("image", "mask"):
                row[key] = None if row[key] is None else str(Path(pictures).resolve() / row[key])
    manifest = with_folds(pandas.DataFrame(rows), "label", seed)
    manifest.attrs["told"] = [*_said(damaged, unlike, same), *([] if outlines else [f"no {OUTLINES}: no masks"])]
    return manifest


def _table(folder: Path) -> Any:
    path = folder / "dataset.csv"
    if not path.is_file():
        raise InputError("this is not the FracAtlas folder", str(folder), "it has to hold dataset.csv and images/")
    table = read_table(path)
    for column in ("image_id", "fractured"):
        if column not in table.columns:
            raise InputError(f"no column '{column}'", str(path))
    for row, (name, label) in enumerate(zip(table["image_id"], table["fractured"], strict=True)):
        if not name or Path(name).name != name or label not in ("0", "1"):
            what = "a row needs the name of a picture, and 0 or 1 for 'fractured'"
            raise InputError(what, f"{path}:{row + 2}")
    twice = [name for name, count in Counter(table["image_id"]).items() if count > 1]
    if twice:
        raise InputError(f"'{twice[0]}' is listed twice", str(path), "remove one of the rows")
    return table


def _outlines(folder: Path) -> dict[str, tuple[tuple[int, int], Corners]]:
    """For each picture with outlines, its size (rows, columns) and the corners (n,2) of each outline."""
    path = folder / OUTLINES
    if not path.is_file():
        return {}
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        images = {image["id"]: image for image in said["images"]}
        found: dict[str, tuple[tuple[int, int], Corners]] = {}
        for one in said["annotations"]:
            image = images[one["image_id"]]
            size = int(image["height"]), int(image["width"])
            corners = [np.reshape(np.array(points, float), (-1, 2)) for points in one["segmentation"]]
            found.setdefault(str(image["file_name"]), (size, []))[1].extend(corners)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("these are not outlines in COCO's format", str(path)) from error
    return found


def _folds(folder: Path) -> dict[str, str]:
    """The published fold of each fractured picture."""
    found: dict[str, str] = {}
    for path in sorted((folder / "Utilities" / "Fracture Split").glob("[!.]*.csv")):
        fold = FOLDS.get(path.stem)
        table = read_table(path)
        if fold is not None and "image_id" in table.columns:
            found |= dict.fromkeys(table["image_id"], fold)
    return found


def _mask(outline: tuple[tuple[int, int], Corners] | None, image: np.ndarray) -> np.ndarray | None:
    """(H,W) of 0 and 255; None without an outline, or if it was drawn on a picture of another size."""
    if outline is None or outline[0] != image.shape or not any(len(corners) > 2 for corners in outline[1]):
        return None
    mask = np.zeros(image.shape, np.uint8)
    for corners in outline[1]:  # a pixel's centre is at 0.5 in COCO, at 0 in OpenCV
        cv2.fillPoly(mask, [np.round((corners - 0.5) * 2**SHIFT).astype(np.int32)], 255, shift=SHIFT)
    return mask


def _write(image: np.ndarray, root: Path, inside: Path) -> str:
    path = root / inside
    path.parent.mkdir(exist_ok=True)
    done, content = cv2.imencode(".png", image)
    if not done:
        raise InputError("the picture cannot be written as PNG", str(path))
    path.write_bytes(content.tobytes())
    return inside.as_posix()


def _patients(rows: list[dict[str, Any]]) -> int:
    """Assign identical pictures to one patient, and name patients after a picture; return the number of copies."""
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        one = first.setdefault(row["patient"], row)
        if one["label"] != row["label"]:
            what = f"{one['case']} and {row['case']} are one picture, once with a fracture and once without"
            raise InputError(what, "dataset.csv", "remove one of the rows")
    names = {content: row["case"] for content, row in first.items()}
    for row in rows:
        row["patient"] = names[row["patient"]]
    return len(rows) - len(first)


def _said(damaged: list[str], unlike: list[str], same: int) -> Iterator[str]:
    yield (
        "the set does not say whose a picture is: each counts as a patient of its own, so pictures of one patient may "
        f"be in two folds{f'; {same} that are copies of another count as the same patient' if same else ''}"
    )
    for names, what in ((damaged, "pictures cannot be read and are left out"), (unlike, "fractures have no mask")):
        if names:
            yield f"{len(names)} {what}: {', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}"
