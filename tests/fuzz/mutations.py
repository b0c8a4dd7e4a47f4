"""Damage, as data: a *program* is a list of operations, so that a failing one can be shrunk, named and repeated."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pydicom
import yaml

BYTES = ("flip", "zero", "ones", "drop", "repeat", "cut")
DETAILS = ("value", "value", "remove", "swap")  # what is done to a tag, a header's field, a cell, a recipe's entry
ODD_TEXTS = (
    "", " ", "nan", "inf", "-inf", "1e400", "1e300", "-1", "0", "1,5", "1\\2", "1\\2\\3\\4\\5\\6", "abc", "2" * 400, "\x00",
    "../../x", "true", "01", "1.0", "é漢", "-0.0", "1e-320", "99999999999999999999", "C#1", "~", "${HOME}", "=1+1",
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    *ODD_TEXTS, None, True, False, 0, -1, 2**31, 2**63, 10**40, 0.5, -0.0, 1e300, float("nan"), float("inf"),
    [], {}, [[]], [None], {"use": "dice"}, {"use": None}, {"from": "s.encoder"}, [{"use": "timm"}], {"": ""}, {"a.b": 1},
)  # fmt: skip
TAGS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "NumberOfFrames",
    "PhotometricInterpretation", "PlanarConfiguration", "RescaleSlope", "RescaleIntercept", "RescaleType", "PixelSpacing",
    "ImagerPixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "SpacingBetweenSlices",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "Modality", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID",
    "StudyInstanceUID", "ImageType", "InstanceNumber", "PixelData", "SpecificCharacterSet", "PatientID", "WindowCenter",
    "ModalityLUTSequence", "SharedFunctionalGroupsSequence", "FrameOfReferenceUID", "PixelAspectRatio", "SmallestImagePixelValue",
)  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """One damage: ``kind`` of BYTES or DETAILS, ``place`` in [0,1) of the input, ``size`` and ``value`` as it needs."""

    kind: str
    place: float
    size: int = 1
    value: int = 0


Program = Sequence[Operation]


def drawn(rng: np.random.Generator, kinds: Sequence[str]) -> list[Operation]:
    """A random program of one to three operations."""
    return [
        Operation(
            str(rng.choice(list(kinds))),
            float(rng.random()),
            int(2 ** rng.integers(0, 12)),
            int(rng.integers(0, 2**16)),
        )
        for _ in range(int(rng.integers(1, 4)))
    ]


def damaged(data: bytes, program: Program) -> bytes:
    """The bytes after the program's operations on bytes."""
    for op in program:
        if op.kind not in BYTES or not data:
            continue
        at = int(op.place * len(data))
        end = min(len(data), at + op.size)
        if op.kind == "flip":
            data = data[:at] + bytes([data[at] ^ (op.value % 255 + 1)]) + data[at + 1 :]
        elif op.kind in ("zero", "ones"):
            data = data[:at] + (b"\0" if op.kind == "zero" else b"\xff") * (end - at) + data[end:]
        elif op.kind == "drop":
            data = data[:at] + data[end:]
        elif op.kind == "repeat":
            data = data[:end] + data[at:]
        else:
            data = data[:at]
    return data


def dicom(source: Path, program: Program) -> bytes:
    """A DICOM file with tags changed, then damaged."""
    details = [op for op in program if op.kind in DETAILS]
    if not details:
        return damaged(source.read_bytes(), program)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(source)
        for op in details:
            _change_tag(data, op)
        out = io.BytesIO()
        try:
            data.save_as(out, enforce_file_format=False)
        except Exception:  # a value that not even a writer takes: there is no such file
            return damaged(source.read_bytes(), program)
    return damaged(out.getvalue(), program)


def _change_tag(data: pydicom.Dataset, op: Operation) -> None:
    tag = TAGS[int(op.place * len(TAGS))]
    if op.kind == "remove":
        if tag in data:
            del data[tag]
        return
    if op.kind == "swap":
        other = TAGS[op.value % len(TAGS)]
        if tag in data and other in data and data[tag].VR == data[other].VR:
            data[tag].value, data[other].value = data[other].value, data[tag].value
        return
    vr = pydicom.datadict.dictionary_VR(tag)
    text = ODD_TEXTS[op.value % len(ODD_TEXTS)]
    if vr in ("US", "SS", "US or SS", "UL"):
        value: Any = [0, 1, 2, 7, 9, 16, 255, 4096, 32767, 40000, 65535, [1, 2], None][op.value % 13]
        vr = "US" if "US" in vr else vr
    elif vr in ("OB", "OW", "OB or OW"):
        value, vr = [b"", b"\1", b"\0" * 100, b"\xff" * 5000][op.value % 4], "OW"
    elif vr == "SQ":
        value = pydicom.Sequence([pydicom.Dataset()] * (op.value % 3))
    elif vr in ("DS", "IS"):
        # Text of a writer that keeps no rules: pydicom's own checks are passed by.
        data.add_new(tag, "LO", text)
        element = pydicom.DataElement(tag, "LO", text, validation_mode=pydicom.config.IGNORE)
        element.VR = vr if op.size % 2 else "LO"
        dict.__setitem__(data._dict, pydicom.tag.Tag(tag), element)
        return
    else:
        value = text
    dict.__setitem__(
        data._dict,
        pydicom.tag.Tag(tag),
        pydicom.DataElement(tag, vr, value, validation_mode=pydicom.config.IGNORE),
    )


def nifti(source: Path, program: Program) -> bytes:
    """A NIfTI file with fields of its header changed (where it is not compressed), then damaged."""
    import nibabel

    data = bytearray(source.read_bytes())
    if source.suffix != ".gz":
        fields = nibabel.Nifti1Header.template_dtype.fields
        names = list(fields)
        for op in program:
            if op.kind not in DETAILS:
                continue
            kind, at = fields[names[int(op.place * len(names))]][:2]
            item = kind.base.itemsize
            at += (op.size % max(1, kind.itemsize // item)) * item
            if kind.base.kind == "f":
                value = [0.0, -1.0, float("nan"), float("inf"), 1e30, 1e-38, 0.5][op.value % 7]
            elif kind.base.kind in "iu":
                value = [0, 1, 2, 3, 4, 7, 16, 128, 255, 1000, 32767, -1][op.value % 12]
            else:
                value = b"x"
            one = np.zeros(1, kind.base)
            try:
                one[0] = value
            except (OverflowError, ValueError):
                continue
            data[at : at + item] = one.tobytes()
    return damaged(bytes(data), program)


def table(source: Path, program: Program) -> bytes:
    """A CSV or Parquet manifest with cells and columns changed, then damaged."""
    details = [op for op in program if op.kind in DETAILS]
    if not details:
        return damaged(source.read_bytes(), program)
    parquet = source.suffix == ".parquet"
    frame = pandas.read_parquet(source) if parquet else pandas.read_csv(source, dtype=str)
    for op in details:
        column = frame.columns[int(op.place * len(frame.columns))]
        if op.kind == "remove":
            if len(frame.columns) > 1:
                frame = frame.drop(columns=column)
        elif op.kind == "swap":
            other = frame.columns[op.value % len(frame.columns)]
            frame[column], frame[other] = frame[other].copy(), frame[column].copy()
        elif op.size % 4 == 0 and parquet:
            kind = ["datetime64[ns]", "category", "bool", "float32", "int64", "Int64", "str"][op.value % 7]
            try:
                frame[column] = frame[column].astype(kind)
            except (ValueError, TypeError):
                continue
        else:
            frame[column] = frame[column].astype(object if not parquet else "str")
            frame.loc[op.size % len(frame), column] = ODD_TEXTS[op.value % len(ODD_TEXTS)]
    out = io.BytesIO()
    frame.to_parquet(out) if parquet else frame.to_csv(out, index=False)
    return damaged(out.getvalue(), program)


def recipe(source: Path, program: Program) -> bytes:
    """A recipe with entries changed, then damaged; its own text where only bytes are damaged."""
    details = [op for op in program if op.kind in DETAILS]
    if not details:
        return damaged(source.read_bytes(), program)
    tree = yaml.safe_load(source.read_text(encoding="utf-8"))
    for op in details:
        spots = list(_spots(tree))
        holder, key = spots[int(op.place * len(spots))]
        if op.kind == "remove":
            del holder[key]
        elif op.kind == "swap":
            other, its = spots[op.value % len(spots)]
            holder[key], other[its] = copy.deepcopy(other[its]), copy.deepcopy(holder[key])
        elif isinstance(holder, dict) and op.size % 4 == 0:
            holder[ODD_TEXTS[op.value % len(ODD_TEXTS)]] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(ODD_VALUES[op.value % len(ODD_VALUES)])
        if not list(_spots(tree)):
            break
    text = yaml.safe_dump(tree, allow_unicode=True, sort_keys=False)
    return damaged(text.encode(), program)


def _spots(tree: Any) -> Any:
    """Every (container, key) of a tree."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(entries):
        yield tree, key
        yield from _spots(value)
