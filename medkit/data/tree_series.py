"""One DICOM series of a tree: what it is by its headers, and whether it can be read as a case.

The reader itself decides whether slices make a stack (:func:`medkit.data.dicom.examine`), so a run can read any series
accepted here, unless its pixels are damaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.uid import UID

from medkit.data.dicom import check_images, examine
from medkit.data.dicom_frames import frames_of
from medkit.data.dicom_geometry import STEEPEST
from medkit.data.dicom_header import Header, pixel_spacing
from medkit.data.dicom_pixels import check_rescale, rescale
from medkit.data.dicom_series import is_scout
from medkit.data.tree import KnownHeader, Part
from medkit.errors import InputError

NO_IMAGES = {
    "SR": ("report", "a structured report"),
    "KO": ("report", "a selection of key images"),
    "PR": ("report", "a presentation state"),
    "DOC": ("report", "a document"),
    "AU": ("report", "a recording"),
    "SEG": ("segmentation", "a segmentation, not an image"),
    "REG": ("no image", "a registration"),
    "RTSTRUCT": ("no image", "radiotherapy contours"),
    "RTPLAN": ("no image", "a radiotherapy plan"),
    "RTDOSE": ("no image", "a radiotherapy dose"),
}
"""Modalities that are not images, as (kind, what it is)."""
FLAT = ("CR", "DX", "RG", "MG", "PX", "IO", "XA", "RF")
"""Modalities in which each image is a case of its own."""
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SHARP_WORDS = ("BONE", "LUNG", "SHARP", "EDGE", "KNOCHEN", "LUNGE")


@dataclass
class Series:
    """A series that has been inspected.

    Attributes
    ----------
    study, uid:
        Its StudyInstanceUID (or a substitute) and SeriesInstanceUID.
    headers:
        Its slices, the lowest first; for radiographs, each image.
    kind, reason:
        Why it is left out, in a word or two and in a sentence; empty if it can be a case.
    folder:
        The folder that can stand for it; None if its files have to be listed.
    copies:
        Folders with copies of its files, and how many.
    scouts:
        Names of scouts inside it.
    """

    study: str
    uid: str
    headers: list[Header]
    kind: str = ""
    reason: str = ""
    folder: Path | None = None
    copies: list[tuple[str, int]] = field(default_factory=list)
    scouts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    spacing: tuple[float, float] | None = None
    distance: float | None = None
    axial: bool = True
    derived: bool = False

    @property
    def first(self) -> Header:
        return self.headers[0]

    @property
    def files(self) -> list[Path]:
        """The files of its slices, each once, since a file may hold several slices as frames."""
        return list(dict.fromkeys(header.path for header in self.headers))

    @property
    def modality(self) -> str:
        return self.first.text("Modality").upper()

    @property
    def patient(self) -> str:
        return self.first.text("PatientID")

    @property
    def place(self) -> Path:
        """The folder of its first file."""
        return self.first.path.parent

    @property
    def thickness(self) -> float | None:
        return self.first.number("SliceThickness")

    @property
    def kernel(self) -> str:
        return "/".join(self.first.words("ConvolutionKernel"))

    @property
    def description(self) -> str:
        return self.first.text("SeriesDescription")

    @property
    def sharp(self) -> bool:
        """True for a bone or lung kernel; an unknown one counts as soft."""
        return is_sharp(self.kernel, self.description)

    def leave_out(self, kind: str, reason: str) -> Series:
        self.kind, self.reason = kind, reason
        return self


def is_sharp(kernel: str, description: str = "") -> bool:
    """Whether a convolution kernel is sharp, by the manufacturers' usual names.

    Siemens numbers them by sharpness (``H31s``, ``Br64``: sharp from 60 on), Canon in groups (sharp from ``FC30`` on);
    Philips uses letters (``D``, ``E``, ``YC``, ``YD``, ``L``), GE words (``BONE``, ``BONEPLUS``, ``LUNG``, ``EDGE``).
    """
    name = kernel.upper().split("/")[0].strip()
    if any(word in name or word in description.upper() for word in SHARP_WORDS):
        return True
    digits = "".join(letter for letter in name if letter.isdigit())[:2]
    if name.startswith("FC") and digits:
        return int(digits) >= 30
    if name[:1] in ("B", "H", "J", "Q", "U", "T", "I") and len(digits) == 2:
        return int(digits) >= 60
    return name in ("D", "E", "YC", "YD", "L")


def look(study: str, uid: str, parts: Sequence[tuple[Part, list[KnownHeader]]], least: int, allow_gaps: bool) -> Series:
    """Inspect a series by the headers of all its files.

    Parameters
    ----------
    least:
        The number of slices below which a series is not a volume.
    allow_gaps:
        Accept missing, interleaved or misplaced slices.
    """
    kept, copies = _without_copies(parts)
    headers: list[Header] = [header for _, mine in kept for header in mine]
    found = Series(study, uid, headers, copies=copies)
    damage = next((header.values["damaged"] for _, mine in kept for header in mine if "damaged" in header.values), None)
    if damage:
        return found.leave_out("damaged", damage)
    if found.modality in NO_IMAGES:
        return found.leave_out(*NO_IMAGES[found.modality])
    try:
        images = [image for header in headers if header.get("Rows") is not None for image in frames_of(header)]
    except InputError as error:
        return found.leave_out("unreadable", _said(error))
    scouts = [image for image in images if is_scout(image)]
    images = [image for image in images if not is_scout(image)]
    if scouts and not images:
        return found.leave_out("scout", "a scout or localizer")
    found.scouts, found.headers = [header.name for header in scouts], images or headers
    if len(kept) == 1 and kept[0][0].alone and len(found.files) == len(parts[0][1]):
        found.folder = Path(kept[0][0].folder)
    if not images:
        return found.leave_out("no image", _what(found.first))
    if found.first.text("SOPClassUID").startswith(CAPTURE):
        return found.leave_out("secondary capture", "a secondary capture: a picture of a screen")
    try:
        return _examined(found, images, least, allow_gaps)
    except InputError as error:
        return found.leave_out("unreadable", _said(error))


def _examined(found: Series, images: list[Header], least: int, allow_gaps: bool) -> Series:
    if any((header.number("SamplesPerPixel") or 1) != 1 for header in images):
        return found.leave_out("picture", "colour pictures")
    found.derived = "DERIVED" in found.first.words("ImageType")
    if "MASK" in found.first.words("ImageType")[3:4]:
        return found.leave_out("segmentation", "a mask, not an image")
    if found.modality in FLAT:
        for header in images:
            check_images([header])
        return found
    if len(images) > 1 and any(header.get("ImagePositionPatient") is None for header in images):
        return found.leave_out("picture", "images without a position in the patient")
    if len(images) < least:
        number = f"{len(images)} slice{'s' if len(images) != 1 else ''}"
        return found.leave_out("few slices", f"{number}, fewer than {least}")
    if len(images) == 1 and images[0].get("ImagePositionPatient") is None:
        check_images(images)
        found.spacing = pixel_of(found.first)
        return found
    try:
        stack = examine(images, allow_gaps)
    except InputError as error:
        try:
            examine(images, True)
        except InputError as problem:
            return found.leave_out("unreadable", _said(problem))
        return found.leave_out("gaps", _said(error))
    for header in images:
        check_rescale(header, found.modality == "CT")
        rescale(header)
    found.headers, found.notes = stack.headers, stack.notes
    found.spacing = float(np.linalg.norm(stack.affine[:3, 1])), float(np.linalg.norm(stack.affine[:3, 2]))
    normal = np.cross(stack.affine[:3, 2], stack.affine[:3, 1])
    if len(images) > 1:
        found.distance = float(abs(stack.affine[:3, 0] @ normal) / np.linalg.norm(normal))
    found.axial = bool(abs(normal[2]) >= np.cos(np.radians(STEEPEST)) * np.linalg.norm(normal))
    return found


def _without_copies(
    parts: Sequence[tuple[Part, list[KnownHeader]]],
) -> tuple[list[tuple[Part, list[KnownHeader]]], list[tuple[str, int]]]:
    """The files of a series, without those that repeat an instance with the same header; and the folders and numbers
    of these."""
    seen: dict[str, dict[str, object]] = {}
    kept: list[tuple[Part, list[KnownHeader]]] = []
    copies: list[tuple[str, int]] = []
    for part, headers in parts:
        mine = []
        for header in headers:
            instance = header.text("SOPInstanceUID")
            if instance and seen.get(instance) == header.values:
                continue
            seen.setdefault(instance, header.values)
            mine.append(header)
        if len(mine) < len(headers):
            copies.append((part.folder, len(headers) - len(mine)))
        if mine:
            kept.append((part, mine))
    return kept, copies


def pixel_of(header: Header) -> tuple[float, float] | None:
    """Distance in mm between rows and between columns of a single image; None if unknown."""
    for tag in ("PixelSpacing", "ImagerPixelSpacing"):
        if header.get(tag) is not None:
            with suppress(InputError):
                return pixel_spacing(header, tag)
    return None


def _what(header: Header) -> str:
    name = UID(header.text("SOPClassUID")).name
    return f"not an image: {name}" if name else "a file without an image"


def _said(error: InputError) -> str:
    """An error in one of the files, with only the file's name as its place."""
    where = Path(error.where or "").name
    return f"{where}: {error.what}" if where else error.what
