"""Frames of a multi-frame DICOM file as single images: functional groups say what a single image's header does.

An enhanced CT or MR file (PS3.3 A.38, A.36) keeps what all frames share in one item, and the rest in one item per
frame: position, orientation, pixel spacing, rescale. A frame is a header that has them under the tags of a single
image, so it is checked, stacked and turned into HU like a slice in a file of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from medkit.data.dicom_header import Header
from medkit.errors import InputError

SHARED, EACH = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
GROUPS: Mapping[str, Mapping[str, str]] = {
    "PlanePositionSequence": {"ImagePositionPatient": "ImagePositionPatient"},
    "PlaneOrientationSequence": {"ImageOrientationPatient": "ImageOrientationPatient"},
    "PixelMeasuresSequence": {
        "PixelSpacing": "PixelSpacing",
        "SliceThickness": "SliceThickness",
        "SpacingBetweenSlices": "SpacingBetweenSlices",
    },
    "PixelValueTransformationSequence": {
        "RescaleIntercept": "RescaleIntercept",
        "RescaleSlope": "RescaleSlope",
        "RescaleType": "RescaleType",
    },
    "FrameContentSequence": {"AcquisitionNumber": "FrameAcquisitionNumber", "StackID": "StackID"},
    "CTImageFrameTypeSequence": {"ImageType": "FrameType", "PixelPresentation": "PixelPresentation"},
    "MRImageFrameTypeSequence": {"ImageType": "FrameType"},
    "CTReconstructionSequence": {"ConvolutionKernel": "ConvolutionKernel"},
    "SegmentIdentificationSequence": {"ReferencedSegmentNumber": "ReferencedSegmentNumber"},
}
"""Tags of a single image by the functional group that holds them, and their names there."""
MOVED = {tag for tags in GROUPS.values() for tag in tags} - {"ImageType", "AcquisitionNumber"}
"""Tags that count only in a functional group; at the top level of the file they are ignored."""


class Frames:
    """The pixels of a multi-frame file, which is read once, when the first frame is requested."""

    def __init__(self, header: Header) -> None:
        self.header = header

    @cached_property
    def data(self) -> pydicom.Dataset:
        return self.header.read()

    def stored(self, index: int) -> np.ndarray:
        """(H,W) stored values of one frame, with whatever its unused bits hold."""
        from pydicom.pixels import pixel_array

        return np.asarray(pixel_array(self.data, index=index, correct_unused_bits=False))


@dataclass
class Frame(Header):
    """One frame of a file.

    Attributes
    ----------
    index:
        Which one, from 0.
    own:
        What functional groups say about it, by the tags of a single image.
    frames:
        The pixels of all frames of its file.
    """

    index: int = 0
    own: Mapping[str, Any] = field(default_factory=dict)
    frames: Frames = field(default_factory=lambda: Frames(Header(Path())))

    def has(self, name: str) -> bool:
        return name in self.own or (name not in MOVED and super().has(name))

    def get(self, name: str) -> Any:
        if name not in self.own:
            return None if name in MOVED else super().get(name)
        value = self.own[name]
        return None if value is None or value == "" else value

    @property
    def name(self) -> str:
        return f"frame {self.index + 1} of {self.path.name}"

    def where(self, tag: str) -> str:
        return f"{super().where(tag)}, frame {self.index + 1}"


def frames_of(header: Header) -> list[Header]:
    """The images that a file holds: its frames, or itself if it has no functional groups.

    Raises
    ------
    InputError
        if the numbers of functional group items and frames differ, or an item cannot be read.
    """
    if not (header.has(SHARED) or header.has(EACH)):
        return [header]
    count = int(header.number("NumberOfFrames") or 1)
    shared, each = _items(header, SHARED), _items(header, EACH)
    if len(shared) > 1:
        raise InputError(f"there must be one item, but there are {len(shared)}", header.where(SHARED))
    if len(each) != count:
        what = f"{len(each)} items for {count} frames: which belongs to which is unknown"
        raise InputError(what, header.where(EACH), "get the original file; this one was changed")
    common = dict(_told(header, shared[0], SHARED)) if shared else {}
    pixels = Frames(header)
    own = [{**common, **dict(_told(header, item, EACH))} for item in each]
    known: dict[str, Any] = {"mend": header.mend, "mended": header.mended}
    return [Frame(header.path, header.data, None, None, i, said, pixels, **known) for i, said in enumerate(own)]


def _items(header: Header, name: str) -> list[pydicom.Dataset]:
    value = header.get(name)
    return [] if value is None else list(value)


def _told(header: Header, item: pydicom.Dataset, name: str) -> Iterator[tuple[str, Any]]:
    """What one functional group item says, by the tags of a single image."""
    try:
        for group, tags in GROUPS.items():
            for inside in (item.get(group) or [])[:1]:
                for tag, called in tags.items():
                    if called in inside:
                        yield tag, inside.get(called)
    except Exception as error:  # pydicom parses values on access
        raise InputError("a functional group cannot be read", header.where(name)) from error
