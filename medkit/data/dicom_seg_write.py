"""Writing masks as one DICOM Segmentation object, with highdicom (the extra ``seg``)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import generate_uid
from pydicom.valuerep import format_number_as_ds

import medkit
from medkit.data.dicom_derived import series_number
from medkit.data.dicom_frames import EACH, Frame, frames_of
from medkit.data.dicom_header import Header, pixel_spacing, read_header, vector
from medkit.data.dicom_seg import Segment
from medkit.data.dicom_seg_types import Coded, type_of
from medkit.data.dicom_write import check_whole
from medkit.data.orientation import turn_back
from medkit.data.volume import Volume
from medkit.data.whole import whole_file
from medkit.errors import InputError

REFERRED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
"""Tags by which a segmentation refers to its images."""
MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
)
"""Tags that an image must have, though they may be empty; anonymised images often lack them."""
LEFT = "name a folder and --format dicom, for a series of masks, or a file that ends in .nii.gz"
UTF8 = "ISO_IR 192"
OF_SERIES, OF_TEXT, OF_NAME = 64, 64, 64  # letters


def check_segmentable(image: Volume) -> None:
    """Raise, before the work is done, if no segmentation of an image can be written.

    Raises
    ------
    InputError
        if highdicom is not installed, or the image was not read from DICOM, or it lacks UIDs by which a segmentation
        refers to it.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        hint = "pip install 'medkit-imaging[seg]', or give --format dicom or nifti"
        raise InputError("DICOM SEG is written by highdicom, which is not installed", "--format", hint) from error
    files = image.header.get("files")
    if image.header.get("format") != "dicom" or not files:
        what = "a DICOM segmentation refers to DICOM images, which this is not"
        raise InputError(what, image.place, "name a file that ends in .nii.gz, without --format dicom-seg")
    if "frames" in image.header and len(files) > 1:
        what = f"a segmentation refers to one file of frames, but these are {len(files)}"
        raise InputError(what, image.place, "name a file that ends in .nii.gz")
    check_whole(image)
    for file in files:
        header = read_header(Path(file))
        for name in REFERRED:
            if not header.get(name):
                what = "missing: a segmentation has to name its images by it"
                raise InputError(what, header.where(name), LEFT)


def write_segments(image: Volume, segments: Sequence[Segment], path: Path, *, description: str) -> None:
    """Write one binary DICOM Segmentation of all segments, with a frame for every slice of the image.

    Whatever the spacing and tilt of the slices, each frame has the position of its slice and refers to it. Empty frames
    are written too, so that programs that stack frames see no gaps.

    Parameters
    ----------
    image:
        The segmented image, read from DICOM.
    segments:
        One per class, (D,H,W) of 0 and 1 on the image's grid; they may overlap. Each is declared automatic, with the
        type that its label implies (:func:`medkit.data.dicom_seg_types.type_of`).
    description:
        What was done, in words, for SeriesDescription.

    Raises
    ------
    InputError
        as :func:`check_segmentable`; if ``path`` exists; if highdicom refuses the images.
    """
    check_segmentable(image)
    sources = [_source(file) for file in image.header["files"]]
    pixels = np.stack([_as_stored(segment.mask, image, sources[0]) for segment in segments], -1)
    labels = [segment.label for segment in segments]
    with whole_file(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings quote values of the file, which may name a patient
        made = _segmentation(image, sources, pixels, labels, description)
        _tell_thickness(made, image)
        content = BytesIO()  # pydicom would hide a full disk behind an error of its own
        made.save_as(content)
        temporary.write_bytes(content.getbuffer())


def _source(file: str) -> pydicom.Dataset:
    """The header of an image, with empty values for tags that every image should have."""
    data = pydicom.dcmread(file, stop_before_pixels=True)
    for name in MAY_BE_EMPTY:
        if name not in data:
            setattr(data, name, "")
    if EACH in data:  # highdicom looks for these only among what frames share
        shared, first = data.SharedFunctionalGroupsSequence[0], data[EACH].value[0]
        for group in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
            if group not in shared and group in first:
                setattr(shared, group, first[group].value)
    return data


def _as_stored(mask: np.ndarray, image: Volume, first: pydicom.Dataset) -> np.ndarray:
    """A mask (D,H,W) as (N,H,W), in the order of the image's files, or of all frames of its file."""
    mask = mask.astype(np.uint8)
    mask = turn_back(mask, image.header["back"]) if "back" in image.header else mask
    frames = image.header.get("frames")
    if frames is None:
        return mask
    every = np.zeros((int(first.NumberOfFrames), *mask.shape[1:]), np.uint8)
    every[[index for _, index in frames]] = mask
    return every


def _segmentation(
    image: Volume, sources: list[pydicom.Dataset], pixels: np.ndarray, labels: Sequence[str], description: str
) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    text = f"medkit {description}".replace("\\", "/")
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=text[:OF_NAME].rstrip(), family=codes.cid7162.ArtificialIntelligence, version=medkit.__version__
    )
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=label.replace("\\", "/")[:OF_TEXT].rstrip(),
            segmented_property_category=_code(shown.category),
            segmented_property_type=_code(shown.type),
            anatomic_regions=[_code(shown.region)] if shown.region else None,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, (label, shown) in enumerate(((label, type_of(label)) for label in labels), 1)
    ]
    measures, orientation = _measures(image)
    try:
        return highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=described,
            series_instance_uid=generate_uid(),
            series_number=series_number(sources[0]),
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="medkit",
            manufacturer_model_name="medkit",
            software_versions=medkit.__version__,
            device_serial_number="none",
            content_label="SEGMENTATION",
            content_description=text[:OF_TEXT].rstrip(),
            series_description=text[:OF_SERIES].rstrip(),
            pixel_measures=measures,
            plane_orientation=orientation,
            omit_empty_frames=False,
            specific_character_set=UTF8,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # a missing tag, or one that highdicom rejects
        what = f"highdicom cannot make a segmentation of these images ({type(error).__name__})"
        raise InputError(what, image.place, LEFT) from error


def _code(coded: Coded) -> Any:
    from pydicom.sr.coding import Code

    return Code(coded.value, "SCT", coded.meaning)


def _measures(image: Volume) -> tuple[Any, Any]:
    """Pixel measures and orientation, with the true spacing of slices, if even, rather than the headers' own."""
    import highdicom

    first = _slices(image)[0]
    even = image.positions is None and image.depth > 1 and "back" not in image.header
    return (
        highdicom.PixelMeasuresSequence(
            pixel_spacing=pixel_spacing(first),
            slice_thickness=first.number("SliceThickness"),
            spacing_between_slices=image.spacing[0] if even else None,
        ),
        highdicom.PlaneOrientationSequence("PATIENT", vector(first, "ImageOrientationPatient", 6).tolist()),
    )


def _slices(image: Volume) -> list[Header]:
    """The header of every slice or frame in the files of an image."""
    return [part for file in image.header["files"] for part in frames_of(read_header(Path(file)))]


def _tell_thickness(made: pydicom.Dataset, image: Volume) -> None:
    """Give each frame the thickness of its own slice if slices differ; highdicom takes one for all."""
    thickness = {(part.text("SOPInstanceUID"), _number(part)): part.number("SliceThickness") for part in _slices(image)}
    if len(set(thickness.values())) < 2:
        return
    shared = made.SharedFunctionalGroupsSequence[0]
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    del shared.PixelMeasuresSequence
    for group in made.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        own = thickness[str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber") or 1)]
        measures = pydicom.Dataset()
        measures.PixelSpacing = spacing
        if own:
            measures.SliceThickness = format_number_as_ds(own)
        group.PixelMeasuresSequence = [measures]


def _number(part: Header) -> int:
    return part.index + 1 if isinstance(part, Frame) else 1
