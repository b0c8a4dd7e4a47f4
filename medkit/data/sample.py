"""One prepared case: how it is made from a record, and how the cache stores it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from medkit.data.channels import one_shown
from medkit.data.copies import image_digests
from medkit.data.header_patients import person_of
from medkit.data.transforms import prepare, restore
from medkit.data.units import doubt_of
from medkit.data.volume import spacing_of
from medkit.errors import InputError
from medkit.protocols import Case, Record
from medkit.protocols.classes import Classes, check_mask
from medkit.protocols.labels import Labels

LAYOUT = 3
"""Version of the layout that :func:`pack` writes: part of the cache key, so that samples of others are ignored."""

GRIDS = "does it belong to this image? If so, resample it to the image's grid, by nearest neighbour where it is a mask"


@dataclass
class Sample:
    """One prepared case.

    Attributes
    ----------
    image, target:
        (D,H,W) float32 after preparation; (D,C,H,W) if there are several channels.
    mask:
        (D,H,W) uint8 on the prepared grid: 0 and 1, or values as defined by ``classes``.
    packed_mask:
        The mask on the source grid, eight voxels per byte, for classes one plane per bit; ``native_mask`` unpacks it.
    native_shape:
        (h,w) of the source.
    slice_volumes:
        (D,) volume in mm^3 of a source voxel in each slice.
    affine, positions:
        Of the source: (4,4) from (slice, row, column, 1) indices to mm, and (D,3) mm, the first voxel of each slice.
    shapes:
        In-plane shape before each step of preparation, from :func:`medkit.data.transforms.prepare`.
    digests:
        Digests of the source's slices (of the first image, if several): :func:`medkit.data.copies.image_digests`.
    doubt:
        Why image or target may not be CT in HU, if a step needs it and no file settles it; else "".
    notes:
        What the reader warned of: about the images, the target and the mask, each once.
    person:
        A salted digest of the PatientID in its image's DICOM header; None if there is none.
    positive_voxels:
        (D,) positive voxels of each slice of the prepared mask; None without one.
    any_positive:
        Whether the mask has a positive voxel on the source grid; None without one.
    classes:
        Classes of the mask, if it has several.
    declared, labels:
        The labels that the data block declares, and the case's own, () or (K,) float32; None if there are none.
    """

    case: Case
    image: np.ndarray
    mask: np.ndarray | None
    target: np.ndarray | None
    packed_mask: np.ndarray | None
    native_shape: tuple[int, int]
    slice_volumes: np.ndarray
    affine: np.ndarray
    positions: np.ndarray
    steps: Sequence[Any] = field(default=(), repr=False)
    shapes: Sequence[tuple[int, int]] = ()
    digests: Sequence[int] = ()
    doubt: str = ""
    notes: Sequence[str] = ()
    person: int | None = None
    positive_voxels: np.ndarray | None = None
    any_positive: bool | None = None
    classes: Classes | None = None
    declared: Labels | None = None
    labels: np.ndarray | None = None

    @cached_property
    def native_mask(self) -> np.ndarray | None:
        """(D,h,w) uint8 on the source grid."""
        if self.packed_mask is None:
            return None
        shape = (len(self.image), *self.native_shape)
        if self.classes is None:
            return np.unpackbits(np.asarray(self.packed_mask), count=int(np.prod(shape))).reshape(shape)
        bits = self.classes.bits
        planes = np.unpackbits(np.asarray(self.packed_mask), count=bits * int(np.prod(shape))).reshape(bits, *shape)
        found = planes[0]
        for bit in range(1, bits):
            found |= planes[bit] << bit
        return found

    @property
    def shown(self) -> np.ndarray:
        """(D,H,W), the channel of the image to display."""
        return one_shown(self.image, self.steps)

    @property
    def label(self) -> float:
        """1 if any voxel of the mask is positive, else the case's own label; nan if neither is known."""
        if self.any_positive is not None:
            return float(self.any_positive)
        return float("nan") if self.case.label is None else float(self.case.label)

    @property
    def nbytes(self) -> int:
        """Size in bytes of its arrays on the prepared and the source grid."""
        arrays = (self.image, self.mask, self.target, self.packed_mask)
        return sum(array.nbytes for array in arrays if array is not None)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm between voxels of the source: from slice to slice, down a column, along a row."""
        return spacing_of(self.affine)

    @property
    def voxel_volume(self) -> float:
        """Volume in mm^3 of a source voxel, the mean if slices are unevenly spaced."""
        return float(np.mean(self.slice_volumes))

    def restore(self, array: np.ndarray) -> np.ndarray:
        """Bring a (D,H,W) result on the prepared grid back to the source grid (D,h,w)."""
        return restore(self.steps, array, self.shapes)


def prepare_record(record: Record, case: Case, steps: Sequence[Any], classes: Classes | None = None) -> Sample:
    """Prepare the voxels of one case; ``classes`` are those of its mask, if that has several.

    Raises
    ------
    InputError
        if mask, target or further channels are on another grid, the mask holds other values than 0 and 1 or ``classes``
        allow, voxels are not finite, or a step needs CT in HU and image or target is not.
    """
    image = record.image
    doubts = [
        doubt_of(volume, step.needs_hu, f"case '{case.id}'")
        for step in steps
        if getattr(step, "needs_hu", None)
        for volume in (image, *record.channels, record.target)
        if volume is not None
    ]
    for other in record.channels:
        difference = image.same_grid(other)
        if difference is not None:
            what = f"case '{case.id}': its images lie on different grids ({difference})"
            raise InputError(what, other.place, GRIDS)
    arrays = {"image": image_voxels(record)}
    for name in ("mask", "target"):
        other = getattr(record, name)
        if other is not None:
            difference = image.same_grid(other)
            if difference is not None:
                what = f"case '{case.id}': image and {name} lie on different grids ({difference})"
                raise InputError(what, hint=GRIDS)
            arrays[name] = other.voxels
    for name, voxels in arrays.items():
        if np.issubdtype(voxels.dtype, np.floating) and not np.isfinite(voxels).all():
            count = int((~np.isfinite(voxels)).sum())
            what = f"case '{case.id}': {count} voxels of the {name} are not finite (NaN or infinite)"
            raise InputError(what, hint="write numbers there, such as that of air, or leave the case out")
    native = None
    if "mask" in arrays:
        assert record.mask is not None
        check_mask(np.unique(arrays["mask"]), classes, case.id, record.mask.place)
        native = arrays["mask"] = arrays["mask"].astype(np.uint8)
    prepared, shapes = prepare(steps, arrays)
    sample = Sample(
        case,
        prepared["image"],
        prepared.get("mask"),
        prepared.get("target"),
        None if native is None else packed(native, classes),
        (image.voxels.shape[1], image.voxels.shape[2]),
        image.slice_volumes(),
        image.affine,
        image.slice_positions(),
        steps,
        shapes,
        image_digests(image.voxels),
        next(filter(None, doubts), ""),
        _notes(record),
        person_of(image),
        positive_in_slices(prepared.get("mask")),
        None if native is None else bool(native.any()),
        classes,
    )
    check_label(case, sample.any_positive)
    return sample


def _notes(record: Record) -> list[str]:
    volumes = (record.image, *record.channels, record.target, record.mask)
    return list(dict.fromkeys(note for volume in volumes if volume is not None for note in volume.notes))


def image_voxels(record: Record) -> np.ndarray:
    """(D,H,W) for a record with one image, (D,C,H,W) for several."""
    images = [record.image, *record.channels]
    return np.stack([image.voxels for image in images], 1) if record.channels else record.image.voxels


def packed(mask: np.ndarray, classes: Classes | None = None) -> np.ndarray:
    """A mask packed into eight voxels per byte; with classes one plane per bit, the lowest first."""
    if classes is None:
        return np.packbits(mask)
    return np.packbits(np.stack([(mask >> bit) & 1 for bit in range(classes.bits)]))


def positive_in_slices(mask: np.ndarray | None) -> np.ndarray | None:
    """(D,) number of positive voxels in each slice of a mask (D,H,W)."""
    return None if mask is None else np.array([np.count_nonzero(one) for one in mask], np.float64)


def check_label(case: Case, any_positive: bool | None) -> None:
    """Refuse a case whose label and mask disagree."""
    label = case.label
    if any_positive is not None and label is not None and label in (0, 1) and label != any_positive:
        found = "all empty" if label else "not empty"
        raise InputError(f"case '{case.id}' is labelled {label:g}, but its mask is {found}", hint="correct one of them")


def pack(sample: Sample) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A sample as the cache stores it: arrays, and values for JSON."""
    arrays = {"image": sample.image, "slice_volumes": sample.slice_volumes}
    arrays |= {"affine": sample.affine, "positions": sample.positions}
    if sample.mask is not None and sample.packed_mask is not None:
        arrays |= {"mask": sample.mask, "packed_mask": sample.packed_mask}
    if sample.target is not None:
        arrays["target"] = sample.target
    shapes = [list(shape) for shape in sample.shapes]
    meta = {"native_shape": list(sample.native_shape), "shapes": shapes, "digests": list(sample.digests)}
    counts = None if sample.positive_voxels is None else [int(count) for count in sample.positive_voxels]
    return arrays, {**meta, **remarks(sample), "counts": counts, "any_positive": sample.any_positive}


def remarks(sample: Sample) -> dict[str, Any]:
    """What is told about a sample beside numbers, as values for JSON: :class:`medkit.data.remarks.Remarks` keeps it."""
    return {"doubt": sample.doubt, "notes": list(sample.notes), "person": sample.person}


def unpack(
    case: Case,
    arrays: dict[str, np.ndarray],
    meta: dict[str, Any],
    steps: Sequence[Any],
    classes: Classes | None = None,
) -> Sample:
    """The sample from which :func:`pack` made these."""
    counts = meta["counts"]
    height, width = meta["native_shape"]
    return Sample(
        case,
        arrays["image"],
        arrays.get("mask"),
        arrays.get("target"),
        arrays.get("packed_mask"),
        (height, width),
        arrays["slice_volumes"],
        arrays["affine"],
        arrays["positions"],
        steps,
        [(rows, columns) for rows, columns in meta["shapes"]],
        meta["digests"],
        meta["doubt"],
        meta["notes"],
        meta["person"],
        None if counts is None else np.array(counts, np.float64),
        meta["any_positive"],
        classes,
    )
