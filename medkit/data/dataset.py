"""A data block: a source, its splits and preparation, with prepared samples kept on disk."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import medkit.data.splits as splitting
from medkit.data.cache import Cache
from medkit.data.cases import encoded, take
from medkit.data.copies import image_digests
from medkit.data.keys import key_of, preparation_of
from medkit.data.manifest import as_number
from medkit.data.transforms import VERSION, prepare, restore
from medkit.data.units import SAY_SO, doubt_of
from medkit.data.volume import spacing_of
from medkit.errors import InputError, did_you_mean
from medkit.protocols import Case, Record, Source

AT_ONCE = 1024  # cases that are handed to the threads of preparation together


@dataclass
class Sample:
    """One prepared case.

    Attributes
    ----------
    image, target:
        (D,H,W) float32 after preparation.
    mask:
        (D,H,W) uint8 on the prepared grid.
    packed_mask:
        The mask on the source grid, eight voxels a byte; ``native_mask`` unpacks it.
    native_shape:
        (h,w) of the source.
    slice_volumes:
        (D,) mm^3 a source voxel stands for in each slice.
    affine, positions:
        Of the source: (4,4) from (slice, row, column, 1) indices to mm, and (D,3) mm, each slice's first voxel.
    shapes:
        In-plane shape before each step of preparation, as :func:`medkit.data.transforms.prepare` gives it.
    digests:
        Of the source's slices: :func:`medkit.data.copies.image_digests`.
    doubt:
        What speaks against image or target being CT in HU where a step needs it and no file settles it; or "".
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

    @cached_property
    def native_mask(self) -> np.ndarray | None:
        """(D,h,w) uint8 on the source grid."""
        if self.packed_mask is None:
            return None
        shape = (len(self.image), *self.native_shape)
        return np.unpackbits(np.asarray(self.packed_mask), count=int(np.prod(shape))).reshape(shape)

    @property
    def label(self) -> float:
        """1 if any voxel of the mask is positive, else the case's own label; nan if neither is known."""
        if self.packed_mask is not None:
            return float(self.packed_mask.any())
        return float("nan") if self.case.label is None else float(self.case.label)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm between voxels of the source: from slice to slice, down a column, along a row."""
        return spacing_of(self.affine)

    @property
    def voxel_volume(self) -> float:
        """mm^3 of a source voxel: their mean where slices are not evenly spaced."""
        return float(np.mean(self.slice_volumes))

    def restore(self, array: np.ndarray) -> np.ndarray:
        """Bring a (D,H,W) result on the prepared grid back to the source grid (D,h,w)."""
        return restore(self.steps, array, self.shapes)


class Dataset:
    """Cases of a source in named splits, prepared on demand.

    Parameters
    ----------
    source:
        Where cases come from.
    splits:
        Name to column selection.
    prepare:
        Deterministic steps.
    cache_dir:
        Where prepared samples are kept; None keeps them in memory.
    fields:
        Numeric case fields that batches carry.
    roles_known:
        The caller knows which splits train, validate and test, and compares their patients. Else the names say it:
        ``train``, ``val`` and ``test`` share no patient.
    """

    def __init__(
        self,
        source: Source,
        splits: Mapping[str, Mapping[str, Any]],
        prepare: Sequence[Any] = (),
        cache_dir: Path | None = None,
        fields: Sequence[str] = (),
        roles_known: bool = False,
    ) -> None:
        self.source, self.steps, self.fields = source, list(prepare), tuple(fields)
        self.cache = Cache(cache_dir) if cache_dir is not None else None
        self.memory: dict[str, Sample] = {}
        self.doubts: dict[str, str] = {}
        self._preparation = preparation_of(source, self.steps, VERSION) if self.cache is not None else ""
        self._keys: dict[str, bytes] = {}
        cases = source.cases()
        if not len(cases):
            raise InputError("the source has no cases")
        self.splits = {name: splitting.select(cases, picks, name) for name, picks in splits.items()}
        splitting.tell_look_alikes(cases)
        splitting.check_images(self.splits)
        if not roles_known:
            splitting.check_patients(self.splits)
        for name in self.fields:
            _check_numbers(cases, name)

    def cases(self, split: str) -> Sequence[Case]:
        if split not in self.splits:
            hint = did_you_mean(split, self.splits) or f"splits: {', '.join(self.splits)}"
            raise InputError(f"no split is named '{split}'", hint=hint)
        return self.splits[split]

    def key(self, case: Case) -> str:
        """The key of a prepared case; its files are looked at once, when it is first asked for."""
        if case.id not in self._keys:
            self._keys[case.id] = bytes.fromhex(key_of(self.source.identity(case), self._preparation))
        return self._keys[case.id].hex()

    def sample(self, case: Case, *, check: bool = True) -> Sample:
        """The prepared case, from the cache if it is there; ``check`` is that of :meth:`Cache.read`."""
        sample = self._sample(case, check)
        if sample.doubt:
            self.doubts.setdefault(case.id, sample.doubt)
        return sample

    def doubtful(self) -> str | None:
        """What is to be told beside every number where cases that were prepared may not be CT in HU."""
        if not self.doubts:
            return None
        first = next(iter(self.doubts.values()))
        count = f"{len(self.doubts)} cases" if len(self.doubts) > 1 else "1 case"
        return f"{count} may not be CT in HU (of the first, {first}), which the preparation takes for granted; {SAY_SO}"

    def _sample(self, case: Case, check: bool) -> Sample:
        if case.id in self.memory:
            return self.memory[case.id]
        if self.cache is None:
            sample = self.memory[case.id] = prepare_record(self.source.load(case), case, self.steps)
            return sample
        key = self.key(case)
        found = self.cache.read(key, check=check)
        if found is None:
            sample = prepare_record(self.source.load(case), case, self.steps)
            self.cache.write(key, *_pack(sample))
            found = self.cache.read(key)
            if found is None:
                return sample
        sample = _unpack(case, *found, self.steps)
        _check_label(sample)  # again: the manifest may have changed since
        return sample

    def prepare_all(self, cases: Sequence[Case], progress: Callable[..., None] | None = None, workers: int = 2) -> None:
        """Prepare many cases ahead, several at a time; ``progress(done, total)`` is told after each."""
        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(cases), AT_ONCE):  # all at once are a million futures
                part = [cases[i] for i in range(start, min(start + AT_ONCE, len(cases)))]
                for done, _ in enumerate(pool.map(self._touch, part), start + 1):
                    if progress is not None:
                        progress(done, len(cases))

    def digests(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Sequence[int]]]:
        """Cases that have been prepared, with the digests of their slices."""
        for case in cases:
            yield case, self.sample(case, check=False).digests

    def _touch(self, case: Case) -> None:
        self.sample(case, check=False)


def input_case(fields: Mapping[str, float] | None) -> Case:
    """The case of one image that is no data set's; raises :class:`InputError` for a field that is no finite number."""
    case = Case("input", "input", fields=fields or {})
    for name in case.fields:
        _check_numbers([case], name)
    return case


def _check_numbers(cases: Sequence[Case], name: str) -> None:
    """Refuse cases whose field is no finite number; one written as text, as all of a CSV file's are, is one."""
    codes, values = encoded(cases, name)
    wrong = np.array([*(not math.isfinite(as_number(value)) for value in values), True])[codes]
    if wrong.any():
        found = take(cases, wrong)
        without = [found[i].id for i in range(min(len(found), 8))]
        others = f", nor have {len(found) - 1} others: {', '.join(without[1:])}" if without[1:] else ""
        value = found[0].fields.get(name)
        said = "" if value is None else f", but '{value}'"
        raise InputError(f"case '{without[0]}' has no number in field '{name}'{said}{others}")


def prepare_record(record: Record, case: Case, steps: Sequence[Any]) -> Sample:
    """Prepare the voxels of one case.

    Raises
    ------
    InputError
        if mask or target lie on another grid, the mask holds other values than 0 and 1, voxels are not finite, or a
        step needs CT in HU and image or target is none.
    """
    image = record.image
    doubts = [
        doubt_of(volume, step.needs_hu, f"case '{case.id}'")
        for step in steps
        if getattr(step, "needs_hu", None)
        for volume in (image, record.target)
        if volume is not None
    ]
    arrays = {"image": image.voxels}
    for name in ("mask", "target"):
        other = getattr(record, name)
        if other is not None:
            difference = image.same_grid(other)
            if difference is not None:
                raise InputError(f"case '{case.id}': image and {name} lie on different grids ({difference})")
            arrays[name] = other.voxels
    for name, voxels in arrays.items():
        if np.issubdtype(voxels.dtype, np.floating) and not np.isfinite(voxels).all():
            count = int((~np.isfinite(voxels)).sum())
            raise InputError(f"case '{case.id}': {count} voxels of the {name} are not finite (NaN or infinite)")
    native = None
    if "mask" in arrays:
        values = np.unique(arrays["mask"])
        if not np.isin(values, (0, 1)).all():
            raise InputError(f"case '{case.id}': the mask holds {values[:6].tolist()}, not only 0 and 1")
        native = arrays["mask"] = arrays["mask"].astype(np.uint8)
    prepared, shapes = prepare(steps, arrays)
    sample = Sample(
        case,
        prepared["image"],
        prepared.get("mask"),
        prepared.get("target"),
        None if native is None else np.packbits(native),
        (image.voxels.shape[1], image.voxels.shape[2]),
        image.slice_volumes(),
        image.affine,
        image.slice_positions(),
        steps,
        shapes,
        image_digests(image.voxels),
        next(filter(None, doubts), ""),
    )
    _check_label(sample)
    return sample


def doubts_told(sample: Sample, place: str | None) -> list[str]:
    """Warn of an input that may be no CT in HU, and give the sentence for what is written."""
    if not sample.doubt:
        return []
    text = f"this may not be CT in HU ({sample.doubt}); {SAY_SO}"
    warnings.warn(f"{place or 'the input'}: {text}", stacklevel=3)
    return [text]


def _check_label(sample: Sample) -> None:
    label = sample.case.label
    if sample.packed_mask is not None and label is not None and label in (0, 1) and label != sample.label:
        found = "all empty" if label else "not empty"
        raise InputError(f"case '{sample.case.id}' is labelled {label:g}, but its mask is {found}")


def _pack(sample: Sample) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays = {"image": sample.image, "slice_volumes": sample.slice_volumes}
    arrays |= {"affine": sample.affine, "positions": sample.positions}
    if sample.mask is not None and sample.packed_mask is not None:
        arrays |= {"mask": sample.mask, "packed_mask": sample.packed_mask}
    if sample.target is not None:
        arrays["target"] = sample.target
    shapes = [list(shape) for shape in sample.shapes]
    meta = {"native_shape": list(sample.native_shape), "shapes": shapes, "digests": list(sample.digests)}
    return arrays, {**meta, "doubt": sample.doubt}


def _unpack(case: Case, arrays: dict[str, np.ndarray], meta: dict[str, Any], steps: Sequence[Any]) -> Sample:
    height, width = meta["native_shape"]
    return Sample(
        case,
        arrays["image"],
        arrays.get("mask"),
        arrays.get("target"),
        arrays.get("packed_mask"),
        (height, width),
        np.asarray(arrays["slice_volumes"]),
        np.asarray(arrays["affine"]),
        np.asarray(arrays["positions"]),
        steps,
        [(rows, columns) for rows, columns in meta["shapes"]],
        meta["digests"],
        meta["doubt"],
    )
