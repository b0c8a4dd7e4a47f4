"""Pieces that objectives share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medkit.parts.sliding import Blend, sliding_window
from medkit.registry.marks import Placed


def modules(placed: Mapping[str, Placed]) -> nn.ModuleDict:
    """The parts of a mapping of slots, as submodules."""
    return nn.ModuleDict({name: item.part for name, item in placed.items()})


def trainable(losses: nn.ModuleDict, name: str) -> dict[str, nn.Module]:
    """The losses that have weights of their own to train, as parts ``name.KEY``, such as a learned balance of tasks."""
    return {f"{name}.{k}": loss for k, loss in losses.items() if any(p.requires_grad for p in loss.parameters())}


class Watched(dict[str, Any]):
    """A batch that records in ``read`` which of its entries were read; asking whether one is there reads nothing."""

    def __init__(self, batch: Mapping[str, Any]) -> None:
        super().__init__(batch)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        if key in self:
            self.read.add(key)
        return super().get(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        self.read.add(key)
        return super().pop(key, *default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().setdefault(key, default)

    def __iter__(self) -> Iterator[str]:
        # With this method, dict(batch) and **batch come here too and read entry by entry.
        return super().__iter__()

    def values(self) -> Any:
        self.read.update(self)
        return super().values()

    def items(self) -> Any:
        self.read.update(self)
        return super().items()

    def copy(self) -> dict[str, Any]:
        self.read.update(self)
        return dict(super().items())

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()


def in_chunks(function: Callable[..., Any], images: Tensor, size: int, *others: Tensor) -> Any:
    """Apply ``function`` to chunks of ``size`` items and join its tensors, lists or dictionaries of tensors.

    ``others`` have as many items as ``images``; the function gets their chunks after that of the images.
    """
    if images.shape[0] <= size:  # not len(), which is a number in an exported network too
        return function(images, *others)
    return _join([function(*chunks) for chunks in zip(*(t.split(size) for t in (images, *others)), strict=True)])


def restore_slices(
    generator: Callable[[Tensor], Tensor],
    images: Tensor,
    slices_at_once: int,
    tile: int | None = None,
    overlap: float = 0.25,
    blend: Blend = "gaussian",
) -> Tensor:
    """What ``generator`` makes of (S,C,H,W) slices, in [0,1]: each in one pass or, with ``tile``, in blended tiles.

    As many tiles are processed at once as fill ``slices_at_once`` slices, so both ways need about the same memory.
    """
    if tile is None:
        return in_chunks(generator, images, slices_at_once).clamp(0, 1)
    tiles_at_once = max(1, slices_at_once * images.shape[-2] * images.shape[-1] // tile**2)
    output = sliding_window(generator, images, (tile, tile), overlap=overlap, blend=blend, batch=tiles_at_once)
    return output.clamp(0, 1)


def _join(results: list[Any]) -> Any:
    first = results[0]
    if isinstance(first, Tensor):
        return torch.cat(results)
    if isinstance(first, dict):
        return {key: _join([result[key] for result in results]) for key in first}
    return type(first)(_join([result[i] for result in results]) for i in range(len(first)))
