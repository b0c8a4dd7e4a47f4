"""A tree of images as a manifest: one row per case, and one line with the reason for all that is left out."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from medkit.data.alike import look_alikes
from medkit.data.dicom_header import Header
from medkit.data.tree import Tree
from medkit.data.tree_choice import choose, named, rules
from medkit.data.tree_files import identity, is_mask, size_of, stem
from medkit.data.tree_masks import Masks
from medkit.data.tree_series import FLAT, Series, look, pixel_of
from medkit.errors import InputError

COLUMNS = (
    "case",
    "patient",
    "image",
    "modality",
    "study",
    "series",
    "slices",
    "rows",
    "columns",
    "pixel_mm",
    "slice_mm",
    "thickness_mm",
    "kernel",
    "description",
    "note",
    "chosen",
)
LEFT_OUT = ("kind", "place", "study", "series", "description", "images", "reason")
SHOWN = 3  # groups of patients that look alike
UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True)
class Choices:
    """What to take from a tree.

    Attributes
    ----------
    modality:
        The DICOM modality to take; default: the one with the most images.
    slices:
        Series with fewer slices are not volumes.
    thickness, sharp:
        Which of several series of a study to prefer: slice thickness in mm, and sharp kernels.
    every:
        Take every readable series as a case, even if it is not axial.
    allow_gaps:
        Accept series with missing, interleaved or misplaced slices.
    patient:
        ``header``: DICOM's PatientID, and any other file is a patient of its own; ``folder``: the first folder below
        the root; or a regular expression whose first group is searched for in a case's path.
    masks:
        Folder of masks, named like the images (:mod:`medkit.data.tree_masks`); they do not count as images.
    skip:
        A regular expression; series whose description or folder name matches are left out.
    """

    modality: str | None = None
    slices: int = 8
    thickness: float | None = None
    sharp: bool = False
    every: bool = False
    allow_gaps: bool = False
    patient: str = "header"
    masks: Path | None = None
    skip: str | None = None


class LeftOut:
    """The table of what is left out; lines are written at once, and counted by kind."""

    def __init__(self, file: IO[str], root: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.root = root
        self._writer = csv.writer(file)
        self._writer.writerow(LEFT_OUT)

    def add(self, kind: str, place: Path | str, reason: str, series: Series | None = None, images: int = 1) -> None:
        self.counts[kind] += 1
        where = place.relative_to(self.root).as_posix() if isinstance(place, Path) else place
        own = ("", "", "") if series is None else (series.study, series.uid, named(series))
        self._writer.writerow([kind, where, *own, images, reason])


TAKEN = "taken"
"""In the keys of a case, what counts as its patient, as nothing says whose it is: its ``study`` or its ``file``."""


@dataclass
class Gathered:
    """The cases of a tree.

    Attributes
    ----------
    rows:
        One row per case: the manifest's columns by name.
    keys:
        For each row, what a table of labels may identify it by.
    modality:
        The DICOM modalities taken.
    told:
        Messages for the user.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    keys: list[dict[str, str]] = field(default_factory=list)
    modality: tuple[str, ...] = ()
    told: list[str] = field(default_factory=list)
    files: int = 0


def gather(
    root: Path,
    left_out: LeftOut,
    listing: Callable[[str, list[Path]], Path],
    choices: Choices,
    progress: Callable[[int], None] | None = None,
) -> Gathered:
    """The cases below a folder; headers are read, but no pixels.

    Parameters
    ----------
    listing:
        Writes a list of a series' files under a name, and returns its final path.
    progress:
        Called with the number of files inspected.

    Raises
    ------
    InputError
        if there is no case, or a choice cannot be met.
    """
    root = Path(root).resolve()
    found = Gathered()
    masks = None if choices.masks is None else Masks.below(choices.masks)
    skipped = None if choices.skip is None else _pattern(choices.skip, "--skip")
    with Tree(root, left_out.add) as tree:
        tree.read(progress)
        found.files, counts = tree.found.count, tree.found.images
        found.modality = _modality(choices.modality, counts)
        for study, series in tree.found.studies.items():
            looked = [
                look(study, uid, list(tree.series(parts)), choices.slices, choices.allow_gaps)
                for uid, parts in series.items()
            ]
            for one, header, why in _of_study(looked, found.modality, choices, skipped):
                _add_dicom(found, root, one, header, why, listing)
            _tell(looked, left_out)
        for name in tree.found.files:
            _add_file(found, root, Path(name), left_out, choices, masks)
        if tree.found.hidden:
            left_out.add("hidden", "", f"{tree.found.hidden} names that begin with a dot", images=tree.found.hidden)
    if not found.rows:
        kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.counts.most_common(6)) or "it is empty"
        raise InputError(f"there is no case here ({kinds})", str(root), _way_out(left_out, choices))
    _distinct_cases(found)
    _patients(found, choices.patient, root)
    if masks is not None:
        _join_masks(found, masks, left_out)
    if len(counts) > 1:
        others = ", ".join(f"{name or 'none'} ({count})" for name, count in counts.most_common() if name)
        found.told.append(f"modality {'/'.join(found.modality)} is taken; there are images of {others}")
    pictures = sum(str(row["image"]).lower().endswith(".png") for row in found.rows)
    if 0 < pictures < len(found.rows):
        kinds = f"scans ({len(found.rows) - pictures}) and PNG pictures ({pictures})"
        hint = "if they do not belong together, move one kind away: a recipe reads all cases alike"
        found.told.append(f"the cases are of two kinds, {kinds}; {hint}")
    return found


def _modality(wanted: str | None, counts: Counter[str]) -> tuple[str, ...]:
    if wanted is not None:
        if wanted.upper() not in counts:
            there = ", ".join(sorted(filter(None, counts))) or "no DICOM image"
            raise InputError(f"no image is of modality '{wanted}'", "--modality", f"there: {there}")
        return (wanted.upper(),)
    grouped: Counter[tuple[str, ...]] = Counter()
    for name, count in sorted(counts.items()):
        grouped[tuple(sorted({*FLAT} & {*counts})) if name in FLAT else (name,)] += count
    return grouped.most_common(1)[0][0] if grouped else ()


def _of_study(
    looked: list[Series], modality: tuple[str, ...], choices: Choices, skipped: re.Pattern[str] | None
) -> Iterator[tuple[Series, Header | None, str]]:
    """The cases of a study, and why each was chosen: series, or for radiographs each image."""
    for one in looked:
        if not one.kind and one.modality not in modality:
            one.leave_out("other modality", f"{one.modality or 'no modality'}, not {'/'.join(modality)}")
        if not one.kind and not one.axial and not choices.every:
            one.leave_out("not axial", "its slices are not axial")
        if not one.kind and skipped is not None and (text := skipped.search(f"{one.description}\n{one.place.name}")):
            one.leave_out("skipped", f"'{text[0]}' in its name")
    able = [one for one in looked if not one.kind]
    for one in able:
        if one.modality in FLAT or choices.every:
            flat = one.modality in FLAT
            for header in one.headers if flat else [None]:
                yield one, header, "a radiograph" if flat else "every series is taken"
    volumes = [one for one in able if one.modality not in FLAT]
    if volumes and not choices.every:
        one, why = choose(volumes, rules(choices.thickness, choices.sharp))
        yield one, None, why


def _tell(looked: list[Series], left_out: LeftOut) -> None:
    for one in looked:
        if one.kind:
            left_out.add(one.kind, one.place, one.reason, one, len(one.files))
        for folder, number in one.copies:
            kept = one.place.relative_to(left_out.root).as_posix()
            left_out.add("copy", Path(folder), f"the same instances as in {kept}", one, number)
        if one.scouts and one.kind != "scout":
            left_out.add("scout", one.place, f"inside a series: {', '.join(one.scouts[:3])}", one, len(one.scouts))


def _add_dicom(
    found: Gathered,
    root: Path,
    series: Series,
    header: Header | None,
    why: str,
    listing: Callable[[str, list[Path]], Path],
) -> None:
    first = header or series.first
    if header is not None:
        image, case = header.path, stem(header.path.relative_to(root).as_posix())
    elif series.folder is not None:
        image, case = series.folder, series.folder.relative_to(root).as_posix()
        case = root.name if case == "." else case
    else:
        uid = series.uid if UID.fullmatch(series.uid) else f"series-{len(found.rows)}"
        image, case = listing(uid, series.files), uid
    spacing = pixel_of(first) if header is not None else series.spacing
    row = {
        "case": case,
        "patient": series.patient,
        "image": str(image),
        "modality": series.modality,
        "study": "" if series.study.startswith("no study") else series.study,
        "series": series.uid,
        "slices": 1 if header is not None else len(series.headers),
        "rows": int(first.number("Rows") or 0),
        "columns": int(first.number("Columns") or 0),
        "pixel_mm": round(spacing[0], 4) if spacing else None,
        "slice_mm": round(series.distance, 4) if series.distance else None,
        "thickness_mm": series.thickness,
        "kernel": series.kernel,
        "description": series.description,
        "note": "; ".join(series.notes),
        "chosen": why,
    }
    inside = first.path.relative_to(root)
    found.rows.append(row)
    keys = {"case": case, "patient": series.patient, "study": str(row["study"]), "series": series.uid}
    own = stem(inside.name) if header is not None else inside.parent.name
    keys |= {"name": own, "folder": inside.parts[0] if len(inside.parts) > 1 else ""}
    found.keys.append(keys | {"accession": series.first.text("AccessionNumber"), "path": inside.as_posix()})


def _add_file(
    found: Gathered, root: Path, path: Path, left_out: LeftOut, choices: Choices, masks: Masks | None
) -> None:
    if masks is not None and choices.masks is not None and path.is_relative_to(choices.masks.resolve()):
        return
    if is_mask(path, root):
        left_out.add("mask", path, "its name says that it is a mask: --masks DIR joins those of a folder")
        return
    try:
        size = size_of(path)
    except InputError as error:
        left_out.add("unreadable", path, error.what)
        return
    inside = path.relative_to(root)
    case = stem(inside.as_posix())
    found.rows.append({"case": case, "patient": "", "image": str(path), **size, "chosen": "a file of its own"})
    keys = {"case": case, "name": stem(path.name), "folder": inside.parts[0] if len(inside.parts) > 1 else ""}
    found.keys.append(keys | {"id": identity(path.name), "file": path.name, "path": inside.as_posix()})


def _distinct_cases(found: Gathered) -> None:
    """Make names of cases unique: repeated ones (a file as PNG and as NIfTI) are replaced by their paths."""
    counts = Counter(row["case"] for row in found.rows)
    for row, keys in zip(found.rows, found.keys, strict=True):
        if counts[row["case"]] > 1:
            row["case"] = keys["case"] = keys["path"]


def _patients(found: Gathered, by: str, root: Path) -> None:
    """Find the patient of each case; reported if nothing says it."""
    if by not in ("header", "folder"):
        pattern = _pattern(by, "--patient")
        if pattern.groups < 1:
            raise InputError(f"'{by}' has no group for the patient", "--patient", "mark it with (): '^([0-9]+)_'")
    for row, keys in zip(found.rows, found.keys, strict=True):
        if by == "folder":
            patient = keys["folder"]
        elif by != "header":
            match = pattern.search(keys["path"])
            patient = (match[1] or "") if match else ""
        else:
            patient = row["patient"]
            if not patient:
                patient = row.get("study") or row["case"]
                keys[TAKEN] = "study" if row.get("study") else "file"
        if not patient:
            what = f"there is no patient in '{keys['path']}'"
            raise InputError(what, str(root), "--patient header, folder, or an expression that matches all paths")
        row["patient"] = keys["patient"] = patient


def of_patients(found: Gathered) -> list[str]:
    """Messages on patients that are assumed, or may be one; labels are joined before, as they may name patients."""
    told: list[str] = []
    taken = [keys.get(TAKEN) for keys in found.keys]
    own, studies = taken.count("file"), taken.count("study")
    hint = "if patients have several, say whose they are: --patient, or a column 'patient' in --labels"
    if own:
        told.append(f"{own} files do not say whose they are, so each counts as a patient of its own; {hint}")
    if studies:
        told.append(f"{studies} cases have no PatientID, so each study counts as a patient; {hint}")
    if len(found.rows) > 1 and len({row["patient"] for row in found.rows}) == 1:
        told.append("all cases are of the same patient, so they cannot be split; say whose they are: --patient")
    # A Parquet table of labels may have numbers.
    groups = look_alikes([str(row["patient"]) for row in found.rows])
    for group in groups[:SHOWN]:
        alike = " and ".join(ascii(name) for name in group)
        told.append(f"patients {alike} look alike and count as {len(group)}; {hint}")
    if len(groups) > SHOWN:
        told.append(f"and {len(groups) - SHOWN} more groups of patients look alike")
    return told


def _pattern(text: str, option: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise InputError(f"'{text}' is not a regular expression ({error})", option) from error


def _join_masks(found: Gathered, masks: Masks, left_out: LeftOut) -> None:
    """Join masks to cases, and report what does not match, on both sides."""
    mine = masks.of(found.rows, found.keys)
    for row, mask in zip(found.rows, mine, strict=True):
        row["mask"] = None if mask is None else str(mask)
    for path in sorted({*masks.by_place.values()} - {*mine}):
        left_out.add("mask", str(path), "no image has this name")
    without = [row["case"] for row in found.rows if row["mask"] is None]
    if len(without) == len(found.rows):
        raise InputError("no mask has the name of an image", str(masks.folder), f"images: {', '.join(without[:3])}")
    if without:
        found.told.append(f"{len(without)} cases have no mask: {', '.join(without[:3])}")


def _way_out(left_out: LeftOut, choices: Choices) -> str | None:
    kind = next((kind for kind, _ in left_out.counts.most_common() if kind in WAYS), None)
    return WAYS[kind] if kind else None


WAYS = {
    "few slices": "--min-slices 1 takes single slices too",
    "gaps": "--allow-gaps reads them as they are",
    "not axial": "--every-series takes other planes too",
    "skipped": "--skip leaves all series out",
    "mask": "give the folder of images, and that of masks with --masks",
}
