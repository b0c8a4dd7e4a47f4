"""Writing masks and images back as a DICOM series on the source's own slices."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

import medkit
from medkit.data.dicom_header import read_header
from medkit.data.dicom_pixels import apply_modality, padding_mask, padding_range
from medkit.data.orientation import turn_back
from medkit.data.volume import Volume
from medkit.data.whole import whole_folder
from medkit.errors import InputError

Kind = Literal["mask", "image"]
DROPPED = (
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "InstanceCreationDate",
    "InstanceCreationTime",
)
NAMED = ("SOPClassUID", "SOPInstanceUID")
SOURCE_IMAGE = ("121322", "DCM", "Source image for image processing operation")


def write_series(volume: Volume, folder: Path, *, kind: Kind, description: str) -> None:
    """Write (D,H,W) voxels as a derived series: the source's geometry and study, new series and instance UIDs.

    A mask becomes a series of 0 and 1 with the CT's geometry (any viewer can fuse it), not a DICOM SEG object. An
    image holds whole HU; where the source had padding, its padding value stays. Every slice names the one it was made
    from (SourceImageSequence).

    Raises
    ------
    InputError
        if the volume was not read from DICOM, or ``folder`` exists.
    """
    files = volume.header.get("files")
    slices = volume.voxels if "back" not in volume.header else turn_back(volume.voxels, volume.header["back"])
    if volume.header.get("format") != "dicom" or files is None or len(files) != len(slices):
        raise InputError("only a volume read from DICOM can be written as DICOM", str(folder), "write NIfTI instead")
    series = generate_uid()
    with whole_folder(folder) as temporary:
        for z, (file, voxels) in enumerate(zip(files, slices, strict=True)):
            data = pydicom.dcmread(file)
            source = (data.SOPClassUID, data.SOPInstanceUID)
            stored, padding = _stored(voxels, data, kind)
            for name in DROPPED:
                if name in data:
                    delattr(data, name)
            data.SeriesInstanceUID, data.SOPInstanceUID = series, generate_uid()
            data.file_meta = FileMetaDataset()  # the source's says who wrote the source; the rest is filled in
            data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            data.ImageType = ["DERIVED", "SECONDARY", *list(data.get("ImageType") or [])[2:3]]
            data.SeriesDescription = description[:64]
            data.DerivationDescription = f"{description}, made by medkit {medkit.__version__}"
            data.SourceImageSequence = [_reference(*source)]
            data.SeriesNumber = int(data.get("SeriesNumber") or 0) + 9000
            data.RescaleSlope, data.RescaleIntercept = "1", "0"
            data.PhotometricInterpretation, data.SamplesPerPixel = "MONOCHROME2", 1
            data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
            if padding is not None:
                data.add_new("PixelPaddingValue", "SS", padding[0])
                if padding[1] != padding[0]:
                    data.add_new("PixelPaddingRangeLimit", "SS", padding[1])
            if kind == "mask":
                data.WindowCenter, data.WindowWidth = "0.5", "1"
            data.PixelData = stored.astype("<i2").tobytes()
            data["PixelData"].VR = "OW"
            data.save_as(temporary / f"{z + 1:04d}.dcm", enforce_file_format=True)


def check_sources(volume: Volume) -> None:
    """Say before the work is done that slices lack what a derived object has to name.

    Raises
    ------
    InputError
        naming file and tag.
    """
    for file in volume.header["files"]:
        header = read_header(Path(file))
        for name in NAMED:
            if not header.get(name):
                hint = "name a file that ends in .nii.gz instead, or restore the UIDs"
                what = "missing: a derived DICOM object has to name its source by it"
                raise InputError(what, header.where(name), hint)


def _reference(sop_class: str, instance: str) -> pydicom.Dataset:
    code, item = pydicom.Dataset(), pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = SOURCE_IMAGE
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
    item.PurposeOfReferenceCodeSequence = [code]
    return item


def _stored(voxels: np.ndarray, source: pydicom.Dataset, kind: Kind) -> tuple[np.ndarray, tuple[int, int] | None]:
    """What is written of one slice, and the range of values in it that is padding."""
    if kind == "mask":
        return voxels.astype(np.int16), None
    values = _whole(voxels)
    stored, ends = source.pixel_array, padding_range(source)
    padding = padding_mask(stored, source)
    if ends is None or padding is None or not padding.any():
        return values, None
    values = np.where(padding, _whole(apply_modality(stored, source)), values)
    low, high = sorted(int(end) for end in _whole(apply_modality(np.array(ends), source)))
    # A new value inside the range of padding would be read as air: then the padding keeps its values, not its name.
    clash = ((values >= low) & (values <= high) & ~padding).any()
    return values, None if clash else (low, high)


def _whole(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), -32768, 32767).astype(np.int16)
