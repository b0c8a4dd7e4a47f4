"""From items to a batch: slices of volumes one after the other, never padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from medkit.data.draws import Arrays, ItemDraw
from medkit.data.sample import Sample
from medkit.data.views import NAMES
from medkit.errors import InputError
from medkit.protocols import Batch, Case
from medkit.protocols.classes import Classes

T = TypeVar("T")


class Item(NamedTuple):
    """What one case gives to a training batch, drawn and augmented.

    Attributes
    ----------
    name:
        The case's, with the number of the slice if only one was drawn.
    arrays:
        ``image`` and, if there are any, ``mask``, ``target``, ``views`` and ``crops``, (n,H,W) each or as
        :mod:`medkit.data.draws` and :mod:`medkit.data.views` say.
    labels:
        Those that the data block declares, or None.
    """

    name: str
    case: Case
    arrays: Arrays
    label: float
    labels: np.ndarray | None


def collate(items: Sequence[Item], draw: ItemDraw, classes: Classes | None, fields: Sequence[str]) -> Batch:
    """One batch of items that ``draw`` has made; arrays that only some of them have are left out.

    Raises
    ------
    InputError
        if images of the batch differ in size.
    """
    each = draw.each
    volumes = draw.unit == "patch3d"
    batch: Batch = {"ids": _times(each, [item.name for item in items])}
    shared = set(items[0].arrays).intersection(*[item.arrays for item in items])
    for name in ("image", "mask", "target"):
        if name in shared:
            found = _stacked(name, items)
            if name == "mask":
                batch[name] = masks_of(found, classes)
            else:
                batch[name] = of_volumes(found) if volumes else with_channels(found)
    for name in NAMES:
        if name in shared:
            views = _stacked(name, items)
            batch[name] = of_volumes(views, 2) if volumes else with_channels(views, 2)
    if draw.unit == "volume":
        batch["lengths"] = torch.tensor([len(item.arrays["image"]) for item in items])
    batch["label"] = _numbers(each, [item.label for item in items])
    for name in fields:
        batch[name] = _numbers(each, [float(item.case.fields[name]) for item in items])
    labels = [item.labels for item in items if item.labels is not None]
    if len(labels) == len(items):
        batch["labels"] = torch.from_numpy(np.stack(_times(each, labels)))
    return batch


def _times(each: int, values: Sequence[T]) -> Sequence[T]:
    """Every value ``each`` times."""
    return values if each == 1 else [value for value in values for _ in range(each)]


def _numbers(each: int, values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(_times(each, values), dtype=torch.float32)


def _stacked(name: str, items: Sequence[Item]) -> np.ndarray:
    """An array of all items one after the other, as float32; each is copied only once."""
    arrays = [item.arrays[name] for item in items]
    if len({array.shape[1:] for array in arrays}) > 1:
        shapes = {item.arrays[name].shape[1:]: item.name for item in items}
        each = " and ".join(f"{'x'.join(map(str, shape))} ({name})" for shape, name in list(shapes.items())[:2])
        hint = "give 'prepare' a step that brings all to one size (resize, pad_resize), or use batch: 1"
        raise InputError(f"cases of different size cannot be one batch: {each}", hint=hint)
    return np.concatenate(arrays, dtype=np.float32, casting="unsafe")


def with_channels(array: np.ndarray, axis: int = 1) -> torch.Tensor:
    """Images as a tensor with channels at ``axis``, adding one if the array, (...,H,W), has none."""
    found = torch.from_numpy(array)
    return found if found.dim() == axis + 3 else found.unsqueeze(axis)


def of_volumes(array: np.ndarray, axis: int = 1) -> torch.Tensor:
    """Patches of volumes, (N,d,h,w) or (N,d,C,h,w), as (N,C,d,h,w); with views before, channels are at ``axis``."""
    found = torch.from_numpy(array)
    return found.unsqueeze(axis) if found.dim() == axis + 3 else found.transpose(axis, axis + 1).contiguous()


def masks_of(array: np.ndarray, classes: Classes | None) -> torch.Tensor:
    """Masks (n,H,W) float32 as (n,1,H,W), or for overlapping classes as (n,K,H,W); 3-D patches likewise."""
    if classes is None or not classes.overlapping:
        return torch.from_numpy(array)[:, None]
    planes = classes.planes(array.astype(np.uint8)).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(planes.swapaxes(0, 1)))


def whole(sample: Sample, fields: Sequence[str] = ()) -> Batch:
    """All slices of one case as a volume batch, for evaluation."""
    batch: Batch = {
        "ids": [sample.case.id],
        "image": with_channels(np.array(sample.image)),
        "lengths": torch.tensor([len(sample.image)]),
        "label": torch.tensor([sample.label]),
    }
    for name in ("mask", "target"):
        array = getattr(sample, name)
        if array is not None:
            found = np.array(array, dtype=np.float32)
            batch[name] = masks_of(found, sample.classes) if name == "mask" else with_channels(found)
    for name in fields:
        batch[name] = torch.tensor([float(sample.case.fields[name])])
    if sample.labels is not None:
        batch["labels"] = torch.from_numpy(sample.labels)[None]
    return batch
