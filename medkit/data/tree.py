"""A tree of folders, each header in it read once: DICOM by series, NIfTI and PNG one by one.

What the headers say goes to a scratch file, folder by folder, and is read back one study at a time. So memory holds
only the largest folder and a few names per series, whatever the number of files.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from medkit.data.dicom_header import Header, find_header
from medkit.data.dicom_series import form, why_image
from medkit.errors import InputError

SAME_FOR_ALL = (
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "Modality",
    "SOPClassUID",
    "SeriesDescription",
    "SeriesNumber",
    "ConvolutionKernel",
    "AccessionNumber",
    "FrameOfReferenceUID",
)
OF_EACH = (
    "SOPInstanceUID",
    "ImageType",
    "AcquisitionNumber",
    "ImagesInAcquisition",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PixelPresentation",
    "BitsStored",
    "HighBit",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
)
KNOWN = (*SAME_FOR_ALL, *OF_EACH)
PRESENT = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ModalityLUTSequence")
"""Tags of which only the presence matters."""
TAGS = (*KNOWN, *PRESENT)
VOLUMES = (".nii", ".nii.gz", ".hdr")
FILES = (*VOLUMES, ".png")
"""Endings of files that are one image each."""
Values = dict[str, Any]


class KnownHeader(Header):
    """A header with the values of ``KNOWN`` at hand; any other is read from the file."""

    def __init__(self, path: Path, values: Values) -> None:
        super().__init__(path)
        self.values = values

    def has(self, name: str) -> bool:
        return self.values.get(name) is not None if name in TAGS else super().has(name)

    def get(self, name: str) -> Any:
        return self.values.get(name) or None if name in KNOWN else super().get(name)


@dataclass(frozen=True)
class Part:
    """The files of one series in one folder, by their position in the scratch file."""

    folder: str
    at: int
    alone: bool
    """Whether the folder holds no other DICOM file, so that it can stand for the series."""


@dataclass
class Found:
    """The images found in a tree.

    Attributes
    ----------
    studies:
        Series by study, in the order found; each with its parts.
    files:
        NIfTI and PNG files.
    images:
        Number of DICOM images, by modality.
    hidden:
        Number of files and folders whose names begin with a dot; they are skipped.
    count:
        Number of files inspected.
    """

    studies: dict[str, dict[str, list[Part]]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    images: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    count: int = 0


class Tree:
    """Reads the headers below a folder; a context manager, which deletes its scratch file at the end.

    Parameters
    ----------
    stranger:
        Called for every file that is not an image, with a kind in a word or two, its path, and the reason.
    """

    def __init__(self, root: Path, stranger: Callable[[str, Path, str], None]) -> None:
        self.root, self.stranger = Path(root), stranger
        self.found = Found()
        self._scratch = tempfile.TemporaryFile()  # noqa: SIM115
        if not self.root.is_dir():
            raise InputError("there is no such folder", str(root), "check the path")

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.close()

    def read(self, progress: Callable[[int], None] | None = None) -> Found:
        """Walk through the tree, folder by folder, in order of their names."""
        for top, folders, names in os.walk(self.root, onerror=_unreadable):
            here = Path(top)
            shown = [name for name in folders if not name.startswith(".")]
            self.found.hidden += len(folders) - len(shown)
            for name in shown:
                if (here / name).is_symlink():
                    self.stranger("link", here / name, "a link to a folder: give the folder itself")
            folders[:] = sorted(name for name in shown if not (here / name).is_symlink())
            files = sorted(name for name in names if not name.startswith("."))
            self.found.hidden += len(names) - len(files)
            self._folder(here, files, progress)
        return self.found

    def series(self, parts: list[Part]) -> Iterator[tuple[Part, list[KnownHeader]]]:
        """The headers of a series, part by part."""
        for part in parts:
            self._scratch.seek(part.at)
            first, others = json.loads(self._scratch.readline())
            yield (
                part,
                [KnownHeader(Path(part.folder, name), first | more) for name, more in others],
            )

    def _folder(self, here: Path, names: list[str], progress: Callable[[int], None] | None) -> None:
        by_series: dict[tuple[str, str], list[tuple[str, Values]]] = {}
        strangers: list[tuple[str, str]] = []
        for name in names:
            self.found.count += 1
            if progress is not None and not self.found.count % 50:
                progress(self.found.count)
            if name.lower().endswith(FILES):
                self.found.files.append(str(here / name))
                continue
            try:
                values = _values(here / name)
            except InputError as error:
                strangers.append((name, f"{error.what}{f'; {error.hint}' if error.hint else ''}"))
                continue
            if values is None:
                strangers.append((name, ""))
            else:
                key = values.get("StudyInstanceUID", ""), values.get("SeriesInstanceUID", "")
                by_series.setdefault(key, []).append((name, values))
        damaged = self._tell_strangers(here, strangers, by_series)
        for (study, uid), files in by_series.items():
            if damaged and len(by_series) == 1:  # it belongs to this series, which is incomplete without it
                files[0][1]["damaged"] = damaged
            part = Part(str(here), self._scratch.seek(0, os.SEEK_END), len(by_series) == 1 and not damaged)
            first = files[0][1]
            if first.get("Rows"):
                self.found.images[first.get("Modality", "").upper()] += len(files)
            others = [(name, _difference(values, first)) for name, values in files]
            self._scratch.write(json.dumps([first, others]).encode() + b"\n")
            # Images without a StudyInstanceUID are not one study: each folder of them is a study of its own.
            self.found.studies.setdefault(study or f"no study: {here}", {}).setdefault(uid, []).append(part)

    def _tell_strangers(self, here: Path, strangers: list[tuple[str, str]], series: Any) -> str:
        """Report files that are not images; return name and fault of one that is a truncated image, or ''."""
        forms = {form(name) for files in series.values() for name, _ in files}
        damaged = ""
        for name, fault in strangers:
            path = here / name
            why = None if fault else why_image(path, forms)
            kind, reason = "damaged", fault or "; ".join(why or ())
            if not reason:
                kind, reason = "no image", _what_it_is(path)
            if kind == "damaged":
                damaged = damaged or f"{name} beside its images: {reason}"
            self.stranger(kind, path, reason)
        return damaged


def _unreadable(error: OSError) -> None:
    raise InputError(f"the folder cannot be read ({error.strerror})", str(error.filename)) from error


def _values(path: Path) -> Values | None:
    """The values of ``TAGS`` that a file has, as strings and lists of strings; None for a file that is not DICOM."""
    header = find_header(path)
    if header is None:
        return None
    found: Values = {}
    for tag in TAGS:
        if not header.has(tag):
            continue
        if tag in PRESENT:
            found[tag] = True
            continue
        try:
            value = header.get(tag)
        except InputError as error:
            found["damaged"] = f"{path.name}: {error}"
            continue
        if value is None:
            found[tag] = ""
        elif isinstance(value, str | int | float) or not hasattr(value, "__iter__"):
            found[tag] = str(value).strip()
        else:
            found[tag] = [str(one) for one in value]
    return found


def _difference(values: Values, first: Values) -> Values:
    """What to change in the values of the first file to get another file's."""
    changed = {tag: value for tag, value in values.items() if first.get(tag) != value}
    return changed | dict.fromkeys(first.keys() - values.keys())


KINDS = {
    ".jpg": "JPEG is not read: write it as PNG",
    ".jpeg": "JPEG is not read: write it as PNG",
    ".tif": "TIFF is not read: write it as PNG",
    ".tiff": "TIFF is not read: write it as PNG",
    ".bmp": "BMP is not read: write it as PNG",
    ".nrrd": "NRRD is not read: write it as NIfTI",
    ".nhdr": "NRRD is not read: write it as NIfTI",
    ".mha": "MetaImage is not read: write it as NIfTI",
    ".mhd": "MetaImage is not read: write it as NIfTI",
    ".npy": "a NumPy array has no spacing: write it as NIfTI",
    ".npz": "a NumPy array has no spacing: write it as NIfTI",
    ".zip": "packed: unpack it first",
    ".tar": "packed: unpack it first",
    ".tgz": "packed: unpack it first",
    ".gz": "packed: unpack it first",
}


def _what_it_is(path: Path) -> str:
    return KINDS.get(path.suffix.lower(), "neither DICOM nor NIfTI nor PNG")
