"""Do the numbers of all slices of a series mean the same? If not, they are no volume, whatever their positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from medkit.data.dicom_geometry import ONE_OF_THEM
from medkit.data.dicom_header import CT_CLASSES, Header
from medkit.errors import InputError

UNITS: dict[str, Callable[[Header], str]] = {
    "Modality": lambda header: header.text("Modality"),
    "Units": lambda header: header.text("Units"),
    "SUVType": lambda header: header.text("SUVType"),
    "RescaleType": lambda header: header.text("RescaleType").upper() or "US",  # unspecified, as if it were absent
}
"""Tags that say what a value measures."""
SCALES = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence")


def check_scale(headers: Sequence[Header]) -> None:
    """Raise :class:`InputError` for slices of one series in other units, without the others' scale, or inverted."""
    first = headers[0]
    if len(headers) == 1 or _is_ct(headers):  # CT is HU by its own rules, or refused, or mended
        return
    for tag, said in UNITS.items():
        for header in headers:
            if said(header) != said(first):
                what = f"{said(header) or 'nothing'} is said here, but {said(first) or 'nothing'} in {first.name}"
                raise InputError(f"{what}: values of one series have one unit", header.where(tag), ONE_OF_THEM)
    inverted = [header.text("PhotometricInterpretation") == "MONOCHROME1" for header in headers]
    if any(inverted) != all(inverted):
        header = headers[inverted.index(not inverted[0])]
        what = f"only one of this image and {first.name} has its brightness inverted (MONOCHROME1)"
        raise InputError(what, header.where("PhotometricInterpretation"), ONE_OF_THEM)
    if all(_is_identity(header) for header in headers):
        return
    for tag in SCALES:
        having = [header.get(tag) is not None for header in headers]
        if any(having) != all(having):
            header = headers[having.index(False)]
            what = "missing here, but not in all slices of its series: its stored values have another scale"
            raise InputError(what, header.where(tag), "get the original files, or leave this one out")


def _is_ct(headers: Sequence[Header]) -> bool:
    return all(
        header.text("Modality") == "CT" and header.text("SOPClassUID") in ("", *CT_CLASSES) for header in headers
    )


def _is_identity(header: Header) -> bool:
    """True if its stored numbers are its values, whether it says so or not."""
    scale = header.number("RescaleSlope"), header.number("RescaleIntercept")
    return scale[0] in (None, 1) and scale[1] in (None, 0) and not header.has("ModalityLUTSequence")
