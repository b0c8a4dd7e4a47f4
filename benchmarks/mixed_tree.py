"""A tree of DICOM studies as a hospital exports them, written in seconds: for a test and for ``bench_folder.py``.

Files are plain DICOM with 100 tags as scanners write them, some of them private, and 8x8 pixels. Each study has one axial
CT series that should be chosen, and beside it what studies usually contain: a scout, a dose report, a sharp kernel, a
coronal reformat, a secondary capture, a copy of a series in another folder, a series with a gap, and hidden files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CT, SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.22"
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
EXPLICIT = "1.2.840.10008.1.2.1"
AXIAL, CORONAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1)
PRIVATE = 60


@dataclass(frozen=True)
class Made:
    """What was written: the folder that should be chosen for each study, and what should be left out, by kind."""

    right: dict[str, Path]
    left_out: dict[str, int]
    files: int


def element(tag: int, kind: str, value: object) -> bytes:
    """One element in explicit little endian."""
    if kind == "US":
        body = struct.pack("<H", value)
    elif isinstance(value, bytes):
        body = value
    else:
        many = value if isinstance(value, list | tuple) else [value]
        body = "\\".join(str(one) for one in many).encode()
    if len(body) % 2:
        body += b"\0" if kind == "UI" else b" "
    start = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, kind.encode())
    return start + (struct.pack("<HI", 0, len(body)) if kind == "OW" else struct.pack("<H", len(body))) + body


def file(sop: str, instance: str, elements: dict[int, tuple[str, object]]) -> bytes:
    """A whole file: preamble, meta header, elements in order."""
    meta = element(0x00020002, "UI", sop) + element(0x00020003, "UI", instance) + element(0x00020010, "UI", EXPLICIT)
    body = b"".join(element(tag, *elements[tag]) for tag in sorted(elements))
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta))
    return b"\0" * 128 + b"DICM" + length + meta + body


def header(study: str, series: str, patient: str, **more: object) -> dict[int, tuple[str, object]]:
    """Tags common to all files of a series."""
    found: dict[int, tuple[str, object]] = {
        0x00080005: ("CS", "ISO_IR 100"),
        0x00080060: ("CS", more.get("modality", "CT")),
        0x0008103E: ("LO", more.get("description", "Head 5.0")),
        0x00100020: ("LO", patient),
        0x0020000D: ("UI", study),
        0x0020000E: ("UI", series),
        0x00200011: ("IS", more.get("number", 2)),
    }
    return found | {0x00190000 + 0x1000 + i: ("LO", f"private {i}") for i in range(PRIVATE)}


def series(
    folder: Path, study: str, uid: str, patient: str, slices: Sequence[float], orientation: Sequence[float] = AXIAL,
    kernel: str = "H31s", kind: Sequence[str] = ("ORIGINAL", "PRIMARY", "AXIAL"), number: int = 2, start: int = 0,
    thickness: str = "5",
) -> int:  # fmt: skip
    """A series of images whose distances from the first are ``slices`` in mm; returns how many files there are."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = header(study, uid, patient, number=number, description=f"Head {kernel}")
    shared |= {
        0x00080008: ("CS", kind),
        0x00080016: ("UI", CT),
        0x00180050: ("DS", thickness),
        0x00181210: ("SH", kernel),
        0x00200037: ("DS", orientation),
        0x00200052: ("UI", f"{study}.9"),
        0x00280002: ("US", 1),
        0x00280004: ("CS", "MONOCHROME2"),
        0x00280010: ("US", 8),
        0x00280011: ("US", 8),
        0x00280030: ("DS", (0.5, 0.5)),
        0x00280100: ("US", 16),
        0x00280101: ("US", 12),
        0x00280102: ("US", 11),
        0x00280103: ("US", 0),
        0x00281052: ("DS", "-1024"),
        0x00281053: ("DS", "1"),
        0x7FE00010: ("OW", b"\0" * 128),
    }
    for i, place in enumerate(slices, start):
        instance = f"{uid}.{i + 1}"
        at = (0, 0, place) if tuple(orientation) == AXIAL else (0, place, 0)
        own = {0x00080018: ("UI", instance), 0x00200013: ("IS", i + 1), 0x00200032: ("DS", at)}
        (folder / f"IM{i:05d}").write_bytes(file(CT, instance, shared | own))
    return len(slices)


def single(folder: Path, name: str, study: str, uid: str, patient: str, sop: str, modality: str) -> int:
    """A report, or a picture of a screen."""
    folder.mkdir(parents=True, exist_ok=True)
    tags = header(study, uid, patient, modality=modality, number=99, description="Dose report")
    tags |= {0x00080016: ("UI", sop), 0x00080018: ("UI", f"{uid}.1")}
    if sop == CAPTURE:
        tags |= {0x00280002: ("US", 1), 0x00280010: ("US", 8), 0x00280011: ("US", 8), 0x7FE00010: ("OW", b"\0" * 128)}
    (folder / name).write_bytes(file(sop, f"{uid}.1", tags))
    return 1


def parts(i: int) -> Iterator[str]:
    """What the i-th study has beside the series to choose."""
    yield "scout"
    for every, kind in ((2, "report"), (3, "sharp"), (4, "coronal"), (5, "capture"), (6, "copy"), (7, "gap")):
        if i % every == 0:
            yield kind


def write(root: Path, studies: int, slices: int = 8) -> Made:
    """Write a tree; one study in eight keeps all its files in one folder.

    Parameters
    ----------
    slices:
        Slices of each series.
    """
    right: dict[str, Path] = {}
    left_out: dict[str, int] = {}
    files = 0
    for i in range(studies):
        flat = i % 8 == 7
        study, patient = f"1.2.3.{i + 1}", f"P{i // 2:04d}"
        top = root / patient / f"study{i}"
        places = [5.0 * z for z in range(slices)]

        def at(name: str, top: Path = top, flat: bool = flat) -> Path:
            return top if flat else top / name

        files += series(at("head"), study, f"{study}.2", patient, places)
        right[f"{study}.2"] = at("head")
        for kind in parts(i):
            if flat and kind == "copy":
                continue  # file names would collide
            left_out[kind] = left_out.get(kind, 0) + 1
            if kind == "scout":
                scout = ("ORIGINAL", "PRIMARY", "LOCALIZER")
                files += series(at("scout"), study, f"{study}.1", patient, [0.0], kind=scout, number=1, start=100)
            elif kind == "report":
                files += single(at("report"), "SR1", study, f"{study}.3", patient, SR, "SR")
            elif kind == "sharp":
                files += series(at("bone"), study, f"{study}.4", patient, places, kernel="H70s", number=3, start=200)
            elif kind == "coronal":
                derived = ("DERIVED", "PRIMARY", "MPR")
                files += series(
                    at("cor"), study, f"{study}.5", patient, places, CORONAL, kind=derived, number=4, start=300
                )
            elif kind == "capture":
                files += single(at("pictures"), "SC1", study, f"{study}.6", patient, CAPTURE, "OT")
            elif kind == "copy":
                files += series(at("head copy"), study, f"{study}.2", patient, places)
            else:
                holed = [*places[:3], *(place + 10 for place in places[3:])]
                files += series(at("thin"), study, f"{study}.7", patient, holed, number=5, start=400)
        (top / ".DS_Store").write_bytes(b"\0")
    return Made(right, left_out, files)
