"""The header of a derived DICOM object: that of its source, without what no longer holds."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal

import pydicom
from pydicom.charset import convert_encodings
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

import medkit

Kind = Literal["mask", "image"]
OLD_PIXELS = (
    "IconImageSequence",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "HistogramSequence",
    "PixelDataProviderURL",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "FloatPixelPaddingValue",
    "FloatPixelPaddingRangeLimit",
    "DoubleFloatPixelPaddingValue",
    "DoubleFloatPixelPaddingRangeLimit",
    "DigitalSignaturesSequence",
    "MACParametersSequence",
    "ReferencedPresentationStateSequence",
)
"""Tags that describe or sign the source's pixels."""
OLD_VALUES = (
    "ModalityLUTSequence",
    "VOILUTSequence",
    "VOILUTFunction",
    "WindowCenter",
    "WindowWidth",
    "WindowCenterWidthExplanation",
    "RealWorldValueMappingSequence",
)
"""Tags about the source's values: wrong for a mask, right for an image in the same scale."""
EQUIPMENT = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "StationName", "SoftwareVersions")
SOURCE_IMAGE = ("121322", "DCM", "Source image for image processing operation")
ACQUISITION = ("109101", "DCM", "Acquisition Equipment")
REPEATED = (0x5000, 0x6000)  # groups of curves and overlays: 5000 to 501E, 6000 to 601E


def describe(data: pydicom.Dataset, kind: Kind, description: str, series: str, study: str, made: datetime) -> None:
    """Turn the header of a source slice into that of an object derived from it, except for its pixels.

    Study, patient, frame of reference, geometry and acquisition stay. New are the UIDs of series and object, dates of
    series, content and instance, the equipment (medkit; the scanner moves to ContributingEquipmentSequence) and the
    descriptions. Whatever describes the old pixels is removed, as are private groups, overlays, curves and signatures.

    Parameters
    ----------
    data:
        The source's data set, changed in place.
    description:
        What was done, in words.
    series, study:
        UID of the new series, and of the study if the source has none.
    made:
        The time, with its time zone.
    """
    source = (data.SOPClassUID, data.SOPInstanceUID)
    _drop(data, kind)
    data.SeriesInstanceUID, data.SOPInstanceUID = series, generate_uid()
    if not data.get("StudyInstanceUID"):
        data.StudyInstanceUID = study
    data.file_meta = FileMetaDataset()  # the source's is about who wrote the source; pydicom fills in the rest
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    kinds = [str(word) for word in data.get("ImageType") or []]
    data.ImageType = ["DERIVED", "SECONDARY", *kinds[2:3], *(["MASK"] if kind == "mask" and kinds[2:3] else [])]
    _describe_equipment(data)
    _describe_times(data, made)
    text = _encodable(data, f"medkit {description}")
    data.SeriesDescription = text[:64].rstrip()
    data.DerivationDescription = f"{text}, made by medkit {medkit.__version__}"[:1024]
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source
    item.PurposeOfReferenceCodeSequence = [_code(*SOURCE_IMAGE)]
    data.SourceImageSequence = [item]
    data.SeriesNumber = series_number(data)


def series_number(source: pydicom.Dataset) -> int:
    """The number of a series derived from that of ``source``, above those that scanners use."""
    number = str(source.get("SeriesNumber") or "")
    return 9000 + (int(number) if number.isdigit() and int(number) < 10**8 else 0)


def _drop(data: pydicom.Dataset, kind: Kind) -> None:
    for name in OLD_PIXELS + (OLD_VALUES if kind == "mask" else ()):
        if name in data:
            delattr(data, name)
    for tag in [tag for tag in data.keys() if tag.is_private or _repeated(tag.group)]:  # noqa: SIM118
        del data[tag]


def _repeated(group: int) -> bool:
    return any(first <= group <= first + 0xFF for first in REPEATED)


def _describe_equipment(data: pydicom.Dataset) -> None:
    scanner = pydicom.Dataset()
    for name in EQUIPMENT:
        if name in data:
            value = data.get(name)
            if value and str(value).isascii():
                setattr(scanner, name, value)
            delattr(data, name)
    if "Manufacturer" in scanner:
        scanner.PurposeOfReferenceCodeSequence = [_code(*ACQUISITION)]
        data.ContributingEquipmentSequence = [*(data.get("ContributingEquipmentSequence") or []), scanner]
    data.Manufacturer, data.ManufacturerModelName, data.SoftwareVersions = "medkit", "medkit", medkit.__version__


def _describe_times(data: pydicom.Dataset, made: datetime) -> None:
    """Set the dates of the new series and object, in the source's time zone if it names one."""
    zone = str(data.get("TimezoneOffsetFromUTC") or "")
    if len(zone) == 5 and zone[0] in "+-" and zone[1:].isdigit():
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
        made = made.astimezone(timezone(offset if zone[0] == "+" else -offset))
    for name in ("Series", "Content", "InstanceCreation"):
        setattr(data, f"{name}Date", made.strftime("%Y%m%d"))
        setattr(data, f"{name}Time", made.strftime("%H%M%S"))


def _encodable(data: pydicom.Dataset, text: str) -> str:
    """``text`` in the character set of ``data``, which becomes UTF-8 if needed and all of ``data`` can be decoded;
    else in ASCII."""
    text = text.replace("\\", "/")
    if text.isascii():
        return text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for encoding in convert_encodings(data.get("SpecificCharacterSet") or "")[:1]:
                text.encode(encoding)
        return text
    except (UnicodeError, LookupError, ValueError, Warning):
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            decoded = pydicom.Dataset()
            decoded.update({tag: data[tag] for tag in data.keys() if tag.group < 0x7FE0})  # noqa: SIM118
            decoded.decode()
    except Exception:  # pydicom may raise almost anything
        return text.encode("ascii", "replace").decode()
    data.decode()
    data.SpecificCharacterSet = "ISO_IR 192"
    return text


def _code(value: str, scheme: str, meaning: str) -> pydicom.Dataset:
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def now() -> datetime:
    return datetime.now(UTC).astimezone()
