"""Folders of public low-dose CT data sets as manifests of pairs: low dose as ``image``, full dose as ``target``."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from medkit.data.dicom_header import Header, vector
from medkit.data.dicom_series import scan
from medkit.data.layouts import FOLDS, with_folds, write_listing
from medkit.errors import InputError, Problems

CLOSE = 0.1
"""Distance in mm up to which two slices have the same position."""
OFFICIAL = {"L333": "val", "L506": "test"}
"""Folds of the 2016 challenge in published work; all other patients are in train."""
ANATOMY = {"C": ("chest", 0.1), "L": ("abdomen", 0.25), "N": ("head", 0.25)}
"""Body part and dose by the first letter of a patient, in both collections."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Place:
    """What a file's path says about it. Low and full dose of one ``case`` are a pair."""

    case: str
    patient: str
    low: bool
    fold: str = ""


@dataclass
class Pair:
    """The files of one case."""

    place: Place
    low: list[Path] = field(default_factory=list)
    full: list[Path] = field(default_factory=list)


def mayo_2016(folder: Path, lists: Path | None = None, progress: Progress | None = None) -> Any:
    """Manifest of the AAPM/Mayo Low Dose CT Grand Challenge of 2016 (ten patients, abdomen, a quarter of the dose).

    Folders may be arranged in any way, if each path names the dose (``quarter_3mm``, ``full_1mm``) and the patient
    (``L067``, as a folder or at the start of the file's name), such as ``L067/quarter_3mm/*.IMA``,
    ``train/full_3mm/L067/*.IMA`` and ``Train/quarter_3mm/L067/quarter_3mm/*.IMA``. A folder ``train``, ``valid`` or
    ``test`` names the fold; without one, L333 is in val and L506 in test. Each slice thickness and kernel (``3mm B30``,
    ``quarter_3mm_sharp``) is a case of its own.

    Parameters
    ----------
    lists:
        Folder for the file lists of series that share a folder with others; never inside the data set.
    progress:
        Called with the number of cases done and the total.

    Returns
    -------
    pandas.DataFrame
        case, patient, center, fold, image, target, body_part, dose, thickness_mm, kernel, slices.

    Raises
    ------
    InputError
        if a patient has only one dose or is in two folds, or the slices of the two doses differ in number, position,
        size, spacing or orientation; naming patient, file and tag.
    """
    import pandas

    folder = Path(folder)
    pairs = _gather(folder, _mayo_place)
    if not pairs:
        wanted = "it has to hold files like L067/quarter_3mm/*.IMA"
        raise InputError("there is no image of the 2016 challenge here", str(folder), wanted)
    folds: dict[str, set[str]] = {}
    for pair in pairs:
        folds.setdefault(pair.place.patient, set()).add(pair.place.fold)
    for patient, found in folds.items():
        if len(found) > 1:
            named = " and ".join(sorted(fold or "no fold" for fold in found))
            raise InputError(f"patient {patient} is in {named}", str(folder), "keep each patient in one of them")
    rows, _ = _rows(pairs, folder, lists, progress)
    for row, pair in zip(rows, pairs, strict=True):
        row["fold"] = pair.place.fold or OFFICIAL.get(pair.place.patient, "train")
    return pandas.DataFrame(rows)


def ldct_projection(folder: Path, lists: Path | None = None, seed: int = 0, progress: Progress | None = None) -> Any:
    """Manifest of TCIA's LDCT-and-Projection-data: chest (a tenth of the dose), abdomen and head (a quarter).

    Images are ``<patient>/<study>/<n>-{Low,Full} Dose Images-<id>/*.dcm``; projections are ignored. Folds are drawn by
    patient, stratified by body part. Patients of GE scanners, whose low dose was published only as projections, are
    left out; ``attrs["left_out"]`` of the table names them.

    Parameters
    ----------
    lists, progress:
        As for :func:`mayo_2016`.
    seed:
        For drawing the folds.

    Returns
    -------
    pandas.DataFrame
        Columns as for :func:`mayo_2016`.

    Raises
    ------
    InputError
        if any other patient has only one dose, and as for :func:`mayo_2016`.
    """
    import pandas

    folder = Path(folder)
    pairs = _gather(folder, _projection_place)
    if not pairs:
        wanted = "it has to hold files like C001/<study>/<n>-Low Dose Images-<id>/*.dcm"
        raise InputError("there is no image of LDCT-and-Projection-data here", str(folder), wanted)
    rows, left_out = _rows(pairs, folder, lists, progress, without_low="GE")
    if not rows:
        raise InputError("no patient has low-dose images", str(folder), "both doses of each patient have to lie here")
    table = with_folds(pandas.DataFrame(rows), "body_part", seed)
    table.attrs["left_out"] = left_out
    return table


def _mayo_place(path: PurePath) -> Place | None:
    dose = patient = fold = kernel = None
    for part in path.parts[:-1]:
        dose = re.fullmatch(r"(quarter|full)_(\d+)mm(_sharp)?", part, re.IGNORECASE) or dose
        patient = re.fullmatch(r"L\d{3}", part, re.IGNORECASE) or patient
        kernel = re.fullmatch(r"\d+mm[ _]([A-Z]\d\d)", part, re.IGNORECASE) or kernel
        fold = FOLDS.get(part.lower(), fold)
    patient = patient or re.match(r"L\d{3}(?=_)", path.name, re.IGNORECASE)
    if dose is None or patient is None:
        return None
    name = patient[0].upper()
    case = f"{name}_{dose[2]}mm" + (f"_{kernel[1].upper()}" if kernel else (dose[3] or "").lower())
    return Place(case, name, dose[1].lower() == "quarter", fold or "")


def _projection_place(path: PurePath) -> Place | None:
    dose = patient = None
    for part in path.parts[:-1]:
        dose = re.search(r"(low|full) dose images", part, re.IGNORECASE) or dose
        patient = re.fullmatch(r"[CLN]\d{3}", part) or patient
    return Place(patient[0], patient[0], dose[1].lower() == "low") if dose and patient else None


def _gather(folder: Path, place_of: Callable[[PurePath], Place | None]) -> list[Pair]:
    """Files by case, in order of their names. Folders of projections, which hold many files, are skipped."""
    pairs: dict[str, Pair] = {}
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if "projections" not in name.lower())
        for name in sorted(name for name in files if not name.startswith(".")):
            path = Path(root) / name
            if path.suffix.lower() not in (".dcm", ".ima"):
                continue
            place = place_of(path.relative_to(folder))
            if place is not None:
                pair = pairs.setdefault(f"{place.fold}/{place.case}", Pair(place))
                (pair.low if place.low else pair.full).append(path)
    return sorted(pairs.values(), key=lambda pair: (pair.place.case, pair.place.fold))


def _rows(
    pairs: Sequence[Pair], folder: Path, lists: Path | None, progress: Progress | None, without_low: str | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Write the series lists; return a row for each pair, and the patients left out because their manufacturer,
    ``without_low``, has no low dose."""
    neighbours = Counter(path.parent for pair in pairs for path in (*pair.low, *pair.full))
    rows: list[dict[str, Any]] = []
    listings: dict[Path, list[Path]] = {}
    left_out: list[str] = []
    problems: list[InputError] = []
    for done, pair in enumerate(pairs, 1):
        try:
            series = _checked(pair, folder, without_low)
        except InputError as problem:
            problems.append(problem)
            if len(problems) >= 10:
                break
            continue
        if series is None:
            left_out.append(pair.place.patient)
            continue
        places = []
        for kind, found, headers in zip(("low", "full"), (pair.low, pair.full), series, strict=True):
            parents = {path.parent for path in found}
            if len(parents) == 1 and neighbours[found[0].parent] == len(found):
                places.append(found[0].parent.resolve())
            else:
                if lists is None:
                    what = "files of several series are in one folder, so lists of them are needed"
                    raise InputError(what, str(found[0].parent), "name a folder outside the data set: lists=FOLDER")
                listing = Path(lists) / f"{pair.place.case}_{kind}.txt"
                listings[listing] = [header.path for header in headers]
                places.append(listing.resolve())
        rows.append(_row(pair.place, places[0], places[1], series[0]))
        if progress is not None:
            progress(done, len(pairs))
    if problems:
        raise Problems(problems)
    for listing, files in listings.items():
        write_listing(files, listing)
    return rows, left_out


def _checked(pair: Pair, folder: Path, without_low: str | None) -> tuple[list[Header], list[Header]] | None:
    """Matching headers of low and full dose; None for a patient whose manufacturer published no low dose."""
    patient = pair.place.patient
    if not pair.full or (not pair.low and not without_low):
        kind, there = ("full", pair.low) if not pair.full else ("low", pair.full)
        raise InputError(f"patient {patient} has no {kind}-dose images to go with these", str(there[0].parent))
    full = _one_series(patient, "full", pair.full, folder)
    if not pair.low:
        maker = str(full[0].get("Manufacturer") or "unknown manufacturer")
        if not maker.upper().startswith(str(without_low)):
            hint = "get them, or move the patient's folder elsewhere"
            raise InputError(f"patient {patient} ({maker}) has no low-dose images", str(folder), hint)
        return None
    low = _one_series(patient, "low", pair.low, folder)
    _check_match(patient, low, full)
    return low, full


def _row(place: Place, image: Path, target: Path, low: Sequence[Header]) -> dict[str, Any]:
    kernel = low[0].get("ConvolutionKernel") or ""
    body_part, dose = ANATOMY[place.patient[0]]
    return {
        "case": place.case,
        "patient": place.patient,
        "center": "mayo",
        "fold": place.fold,
        "image": str(image),
        "target": str(target),
        "body_part": body_part,
        "dose": dose,
        "thickness_mm": float(low[0].get("SliceThickness") or "nan"),
        "kernel": kernel if isinstance(kernel, str) else "/".join(kernel),
        "slices": len(low),
    }


def _one_series(patient: str, kind: str, files: Sequence[Path], folder: Path) -> list[Header]:
    found = scan(files, str(files[0].parent))
    if len(found) > 1:
        where = ", ".join(sorted({str(headers[0].path.parent.relative_to(folder)) for headers in found.values()}))
        raise InputError(f"patient {patient} has {len(found)} series of {kind} dose", where, "keep only the one to use")
    return next(iter(found.values()))


def _check_match(patient: str, low: Sequence[Header], full: Sequence[Header]) -> None:
    """Check that each low-dose slice has one full-dose slice of the same position, size, spacing and orientation."""
    first = low[0]
    size = (first.get("Rows"), first.get("Columns"))
    orientation, spacing = vector(first, "ImageOrientationPatient", 6), vector(first, "PixelSpacing", 2)
    for header in (*low, *full):
        own = (header.get("Rows"), header.get("Columns"))
        if own != size:
            what = f"size {own[0]}x{own[1]} differs from {size[0]}x{size[1]} of {first.name}"
            raise InputError(f"patient {patient}: {what}", header.where("Rows"))
        for tag, wanted in (("PixelSpacing", spacing), ("ImageOrientationPatient", orientation)):
            values = vector(header, tag, len(wanted))
            if np.abs(values - wanted).max() > 1e-3:
                what = f"{_short(values)} differs from {_short(wanted)} of {first.name}"
                raise InputError(f"patient {patient}: {what}", header.where(tag))
    ours, theirs = (np.array([vector(h, "ImagePositionPatient", 3) for h in headers]) for headers in (low, full))
    # The offset in all directions counts, along the normal and in the plane.
    apart = np.linalg.norm(ours[:, None] - theirs[None], axis=2)
    alone = [(header, "full", float(near.min())) for header, near in zip(low, apart, strict=True) if near.min() > CLOSE]
    alone += [
        (header, "low", float(near.min())) for header, near in zip(full, apart.T, strict=True) if near.min() > CLOSE
    ]
    counts = f"patient {patient}: {len(low)} low-dose and {len(full)} full-dose slices"
    if alone:
        header, other, far = alone[0]
        raise InputError(
            f"{counts}, {len(alone)} without a partner; this one (InstanceNumber {header.get('InstanceNumber')}) is "
            f"{far:.2f} mm from the nearest {other}-dose slice",
            header.where("ImagePositionPatient"),
        )
    for headers, distances in ((low, apart.T), (full, apart)):
        for near in distances:
            here = [header for header, far in zip(headers, near, strict=True) if far <= CLOSE]
            if len(here) > 1:
                raise InputError(f"{counts}, {len(here)} at one position", here[-1].where("ImagePositionPatient"))


def _short(values: np.ndarray) -> str:
    return "\\".join(f"{value:g}" for value in values)
