"""Images among files, by series: what else lies there is left out, unless it must be an image that cannot be read."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import pydicom

from medkit.data.dicom_frames import frames_of
from medkit.data.dicom_header import SEGMENTATIONS, Header, find_header
from medkit.data.mend import NOTHING, Mend
from medkit.errors import InputError

DIGITS = re.compile(r"\d+")
PACKED = (".gz", ".bz2", ".xz", ".zip", ".part", ".partial", ".tmp", ".crdownload", ".filepart")
"""Endings of files that are compressed or were not copied completely."""
FORMATS = {"NIfTI": (".nii", ".nii.gz"), "PNG": (".png",)}
"""Other formats that are read, and the endings of their files."""
SCOUTS = {"LOCALIZER", "SCOUT", "TOPOGRAM"}
LOOKED = 1000
"""How many headers are read below a folder without images, to say where there are some."""


def scan(files: Sequence[Path], where: str, mend: Mend = NOTHING) -> dict[str, list[Header]]:
    """Headers of images by series, one per frame if a file has several. Scouts, segmentations, dose reports and files
    that are not DICOM are left out.

    Raises
    ------
    InputError
        if a file is not DICOM although its ending (.dcm, .ima) says so or it is named like the images, if an image has
        no Rows, or if no image is left.
    """
    series: dict[str, list[Header]] = {}
    left_out = {"scout or localizer": 0, "segmentation": 0, "no image": 0, "not DICOM": 0}
    strangers: list[Path] = []
    contours = False
    for path in files:
        header = find_header(path, mend)
        if header is None:
            why = why_image(path, ())
            if why is not None:
                raise InputError(why[0], str(path), why[1])
            strangers.append(path)
            left_out["not DICOM"] += 1
        elif header.get("Rows") is None:
            _check_no_image(header)
            contours = contours or header.text("Modality") == "RTSTRUCT"
            left_out["no image"] += 1
        elif header.text("SOPClassUID") in SEGMENTATIONS:
            left_out["segmentation"] += 1
        else:
            images = [image for image in frames_of(header) if not is_scout(image)]
            if images:
                series.setdefault(header.text("SeriesInstanceUID"), []).extend(images)
            else:
                left_out["scout or localizer"] += 1
    if not series:
        found = ", ".join(f"{count} {name}" for name, count in left_out.items() if count) or "nothing"
        raise InputError(f"no DICOM image was found here ({found})", where, _instead(files, left_out, contours))
    _check_strangers(strangers, (header.path for headers in series.values() for header in headers))
    return series


def _instead(files: Sequence[Path], left_out: Mapping[str, int], contours: bool) -> str | None:
    """What to do about files among which there is no image."""
    if left_out["segmentation"]:
        return "a segmentation is read as the mask of its images"
    if contours:
        return "contours (RTSTRUCT) are not read: convert them to a mask, in 3D Slicer or with plastimatch convert"
    for what, endings in FORMATS.items():
        named = next((path.name for path in files if path.name.lower().endswith(endings)), None)
        if named is not None:
            return f"name {what} images one by one, such as {named}; only DICOM is read as a folder or a list"
    return None


def is_scout(header: Header) -> bool:
    """True for an overview image on which a scan was planned."""
    return bool(SCOUTS & {*header.words("ImageType")})


def _check_no_image(header: Header) -> None:
    """Raise for a file without Rows that has an image's SOP class or none at all: it is cut short."""
    meta = getattr(header.data, "file_meta", {})
    kinds = [header.text("SOPClassUID"), str(meta.get("MediaStorageSOPClassUID") or "")]
    if not any(kinds) or any("Image Storage" in pydicom.uid.UID(kind).name for kind in kinds):
        raise InputError("missing in an image", header.where("Rows"), "is the file cut short?")


def _check_strangers(strangers: Sequence[Path], images: Iterable[Path]) -> None:
    """Raise for a non-DICOM file named like the images beside it: one of them, cut short or compressed."""
    if not strangers:
        return
    forms = {form(path.name) for path in images}
    for path in strangers:
        why = why_image(path, forms)
        if why is not None:
            raise InputError(why[0], str(path), why[1])


def why_image(path: Path, forms: Container[str]) -> tuple[str, str] | None:
    """Why a non-DICOM file must be one of the images beside it, whose names have ``forms``, and what to do; or None."""
    if path.suffix.lower() in (".dcm", ".ima"):
        return "this is not a DICOM file, though its name says so", "is it cut short?"
    packed = path.suffix.lower() in PACKED
    own = form(path.stem if packed else path.name)
    if "0" not in own or own not in forms:
        return None
    what = "this is not a DICOM file, though it is named like the images beside it"
    return what, "unpack it" if packed else "is it cut short? move it elsewhere if it is not one of them"


def form(name: str) -> str:
    """A name with its numbers replaced by 0, and without the ending that DICOM files may have or not."""
    return DIGITS.sub("0", name).removesuffix(".dcm")


def visible(folder: Path) -> list[Path]:
    """The files of a folder in order, without hidden ones (macOS's ``._IM1.dcm`` and ``.DS_Store``)."""
    with os.scandir(folder) as entries:
        return [
            folder / name
            for name in sorted(entry.name for entry in entries if entry.name[0] != "." and entry.is_file())
        ]


def is_picture(headers: Sequence[Header]) -> bool:
    """True for a series that cannot be a volume: colour, or several images of which none has a position."""
    colour = any((header.number("SamplesPerPixel") or 1) != 1 for header in headers)
    return colour or (len(headers) > 1 and all(header.get("ImagePositionPatient") is None for header in headers))


def described(headers: Sequence[Header]) -> str:
    """A series as people tell it from others: number, description, thickness in mm, kernel, how many images."""
    first = headers[0]
    number, thickness = first.text("SeriesNumber"), first.number("SliceThickness")
    kernel = "/".join(first.words("ConvolutionKernel"))
    said = [
        f"number {number}" if number else "",
        f"'{first.text('SeriesDescription')}'" if first.text("SeriesDescription") else first.text("Modality"),
        f"{thickness:g} mm thick" if thickness else "",
        f"kernel {kernel}" if kernel else "",
        f"{len(headers)} image{'s' if len(headers) != 1 else ''}",
    ]
    return ", ".join(text for text in said if text)


def series_below(folder: Path) -> str | None:
    """Which folders below ``folder`` hold images, as a hint; None if none of the first files there is one."""
    counts: dict[str, set[str]] = {}
    seen = 0
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(root)
        for name in sorted(name for name in names if not name.startswith(".")):
            if here == folder:
                continue
            seen += 1
            if seen > LOOKED:
                break
            try:
                header = find_header(here / name)
            except InputError:
                continue
            if header is not None and header.has("Rows"):
                counts.setdefault(str(here.relative_to(folder)), set()).add(header.text("SeriesInstanceUID"))
        if seen > LOOKED:
            break
    if not counts:
        return None
    named = ", ".join(f"{name} ({len(series)} series)" for name, series in islice(counts.items(), 8))
    more = ", and more" if len(counts) > 8 or seen > LOOKED else ""
    return f"folders below it have images; name one of them: {named}{more}"
