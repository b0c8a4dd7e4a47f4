"""Writing masks and images back as a DICOM series on the source's own slices."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import generate_uid

from medkit.data.dicom_derived import Kind, describe, now
from medkit.data.dicom_header import Header, read_header
from medkit.data.dicom_stored import Layout, Slice, encode, fit, write_padding, write_scale
from medkit.data.orientation import turn_back
from medkit.data.volume import Volume
from medkit.data.whole import whole_folder
from medkit.errors import InputError

NAMED = ("SOPClassUID", "SOPInstanceUID")


def write_series(volume: Volume, folder: Path, *, kind: Kind, description: str) -> None:
    """Write (D,H,W) voxels as a derived series: the source's geometry and study, new series and instance UIDs.

    A mask becomes a series of 0 and 1 with the source's geometry (any viewer can fuse it), not a DICOM SEG object. An
    image keeps the source's scale: unchanged voxels keep their stored numbers bit for bit, others get the nearest step,
    in the source's own representation if it can hold them. The source's padding is kept. Every slice names its source
    slice (SourceImageSequence); for the rest of the header see :mod:`medkit.data.dicom_derived`.

    Raises
    ------
    InputError
        if the volume was not read from DICOM, a slice lacks UIDs that a derived object has to name, 16 bits cannot hold
        the values, or ``folder`` exists.
    """
    files = volume.header.get("files")
    voxels = volume.voxels if "back" not in volume.header else turn_back(volume.voxels, volume.header["back"])
    if volume.header.get("format") != "dicom" or files is None or len(files) != len(voxels):
        raise InputError("only a volume read from DICOM can be written as DICOM", str(folder), "write NIfTI instead")
    with whole_folder(folder) as temporary:
        series, study, made = generate_uid(), generate_uid(), now()
        layout, slices = _encoded(voxels, files, kind, volume.header.get("turned"))
        for z, (file, part) in enumerate(zip(files, slices, strict=True)):
            data = pydicom.dcmread(file)
            describe(data, kind, description, series, study, made)
            if kind == "mask":
                _describe_mask(data)
            else:
                write_scale(data, part)
            write_padding(data, part.padding, layout.signed)
            layout.write(data, part.numbers)
            content = BytesIO()  # pydicom would hide a full disk behind an error of its own
            data.save_as(content, enforce_file_format=True)
            (temporary / f"{z + 1:04d}.dcm").write_bytes(content.getbuffer())


def check_sources(volume: Volume) -> None:
    """Raise, before the work is done, if slices lack UIDs that a derived object has to name, or are frames of a file.

    Raises
    ------
    InputError
        naming file and tag.
    """
    if "frames" in volume.header:
        what = "a series cannot be derived from the frames of one file"
        raise InputError(what, volume.place, "give --format dicom-seg for a mask, or name a file that ends in .nii.gz")
    check_whole(volume)
    for file in volume.header["files"]:
        _named(read_header(Path(file)))


def check_whole(volume: Volume) -> None:
    """Refuse a volume whose headers were repaired: a derived object would inherit their faults."""
    if volume.mended:
        what = f"its headers were repaired ({', '.join(volume.mended)}), and a derived object would inherit the faults"
        raise InputError(what, volume.place, "name a file that ends in .nii.gz, or repair the files themselves")


def _named(header: Header) -> Header:
    for name in NAMED:
        if not header.get(name):
            hint = "name a file that ends in .nii.gz instead, or restore the UIDs"
            what = "missing: a derived DICOM object has to name its source by it"
            raise InputError(what, header.where(name), hint)
    return header


def _encoded(voxels: np.ndarray, files: list[str], kind: Kind, turned: float | None) -> tuple[Layout, list[Slice]]:
    headers = [_named(read_header(Path(file))) for file in files]
    if kind == "mask":
        slices = [Slice(image.astype(np.int32), 1.0, 0.0, None) for image in voxels]
    else:
        slices = [encode(image, header, turned) for image, header in zip(voxels, headers, strict=True)]
    return fit(slices, headers[0].data, files[0])


def _describe_mask(data: pydicom.Dataset) -> None:
    """Show 0 as black and 1 as white, whatever the source's grey scale."""
    data.PhotometricInterpretation = "MONOCHROME2"
    if "PresentationLUTShape" in data:
        data.PresentationLUTShape = "IDENTITY"
    data.WindowCenter, data.WindowWidth = "0.5", "1"
    if "RescaleSlope" in data or data.get("Modality") == "CT":
        data.RescaleSlope, data.RescaleIntercept, data.RescaleType = "1", "0", "US"
