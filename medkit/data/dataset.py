"""A data block: a source, its splits and preparation, with prepared samples kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import medkit.data.splits as splitting
from medkit.data.cache import Cache, key_of
from medkit.data.transforms import VERSION, prepare, restore
from medkit.errors import InputError, did_you_mean
from medkit.protocols import Case, Record, Source


@dataclass
class Sample:
    """One prepared case.

    Attributes
    ----------
    image, target:
        (D,H,W) float32 after preparation.
    mask:
        (D,H,W) uint8 on the prepared grid.
    native_mask:
        (D,h,w) uint8 on the source grid.
    native_shape:
        (h,w) of the source.
    slice_volumes:
        (D,) mm^3 a source voxel stands for in each slice.
    """

    case: Case
    image: np.ndarray
    mask: np.ndarray | None
    target: np.ndarray | None
    native_mask: np.ndarray | None
    native_shape: tuple[int, int]
    slice_volumes: np.ndarray
    steps: Sequence[Any] = field(default=(), repr=False)

    @property
    def label(self) -> float:
        """1 if any voxel of the mask is positive, else the case's own label; nan if neither is known."""
        if self.mask is not None:
            assert self.native_mask is not None
            return float(self.native_mask.any())
        return float("nan") if self.case.label is None else float(self.case.label)

    def restore(self, array: np.ndarray) -> np.ndarray:
        """Bring a (D,H,W) result on the prepared grid back to the source grid (D,h,w)."""
        return restore(self.steps, array, self.native_shape)


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
    """

    def __init__(
        self,
        source: Source,
        splits: Mapping[str, Mapping[str, Any]],
        prepare: Sequence[Any] = (),
        cache_dir: Path | None = None,
        fields: Sequence[str] = (),
    ) -> None:
        self.source, self.steps, self.fields = source, list(prepare), tuple(fields)
        self.cache = Cache(cache_dir) if cache_dir is not None else None
        self.memory: dict[str, Sample] = {}
        cases = list(source.cases())
        if not cases:
            raise InputError("the source has no cases")
        self.splits = {name: splitting.select(cases, picks, name) for name, picks in splits.items()}
        splitting.check_patients(self.splits)
        for name in self.fields:
            for case in cases:
                if not isinstance(case.fields.get(name), int | float) or case.fields[name] != case.fields[name]:
                    raise InputError(f"case '{case.id}' has no number in field '{name}'")

    def cases(self, split: str) -> list[Case]:
        if split not in self.splits:
            hint = did_you_mean(split, self.splits) or f"splits: {', '.join(self.splits)}"
            raise InputError(f"no split is named '{split}'", hint=hint)
        return self.splits[split]

    def sample(self, case: Case) -> Sample:
        """The prepared case, from the cache if it is there."""
        if case.id in self.memory:
            return self.memory[case.id]
        if self.cache is None:
            sample = self.memory[case.id] = prepare_record(self.source.load(case), case, self.steps)
            return sample
        key = key_of(self.source.identity(case), self.steps, VERSION)
        found = self.cache.read(key)
        if found is None:
            sample = prepare_record(self.source.load(case), case, self.steps)
            self.cache.write(key, *_pack(sample))
            found = self.cache.read(key)
            if found is None:
                return sample
        return _unpack(case, *found, self.steps)

    def prepare_all(self, cases: Sequence[Case], progress: Callable[..., None] | None = None, workers: int = 2) -> None:
        """Prepare many cases ahead, several at a time; ``progress(done, total)`` is told after each."""
        with ThreadPoolExecutor(workers) as pool:
            for done, _ in enumerate(pool.map(self._touch, cases), 1):
                if progress is not None:
                    progress(done, len(cases))

    def _touch(self, case: Case) -> None:
        self.sample(case)


def prepare_record(record: Record, case: Case, steps: Sequence[Any]) -> Sample:
    """Prepare the voxels of one case.

    Raises
    ------
    InputError
        if mask or target lie on another grid, the mask holds other values than 0 and 1, or voxels are not finite.
    """
    image = record.image
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
        if case.label is not None and float(case.label) in (0.0, 1.0) and bool(case.label) != bool(native.any()):
            found = "all empty" if case.label else "not empty"
            raise InputError(f"case '{case.id}' is labelled {case.label:g}, but its mask is {found}")
    prepared = prepare(steps, arrays)
    return Sample(
        case,
        prepared["image"],
        prepared.get("mask"),
        prepared.get("target"),
        native,
        (image.voxels.shape[1], image.voxels.shape[2]),
        image.slice_volumes(),
        steps,
    )


def _pack(sample: Sample) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays = {"image": sample.image, "slice_volumes": sample.slice_volumes}
    if sample.mask is not None and sample.native_mask is not None:
        arrays |= {"mask": sample.mask, "native_mask": np.packbits(sample.native_mask)}
    if sample.target is not None:
        arrays["target"] = sample.target
    return arrays, {"native_shape": list(sample.native_shape)}


def _unpack(case: Case, arrays: dict[str, np.ndarray], meta: dict[str, Any], steps: Sequence[Any]) -> Sample:
    height, width = meta["native_shape"]
    native = None
    if "native_mask" in arrays:
        depth = len(arrays["image"])
        bits = np.unpackbits(np.asarray(arrays["native_mask"]), count=depth * height * width)
        native = bits.reshape(depth, height, width)
    return Sample(
        case,
        arrays["image"],
        arrays.get("mask"),
        arrays.get("target"),
        native,
        (height, width),
        np.asarray(arrays["slice_volumes"]),
        steps,
    )
