"""Pieces that objectives share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medkit.marks import Placed


def modules(placed: Mapping[str, Placed]) -> nn.ModuleDict:
    """The parts of a mapping of slots, as submodules."""
    return nn.ModuleDict({name: item.part for name, item in placed.items()})


def in_chunks(function: Callable[[Tensor], Any], images: Tensor, size: int) -> Any:
    """Apply ``function`` to chunks of ``size`` items and join its tensors, lists or dictionaries of tensors."""
    if len(images) <= size:
        return function(images)
    return _join([function(chunk) for chunk in images.split(size)])


def _join(results: list[Any]) -> Any:
    first = results[0]
    if isinstance(first, Tensor):
        return torch.cat(results)
    if isinstance(first, dict):
        return {key: _join([result[key] for result in results]) for key in first}
    return type(first)(_join([result[i] for result in results]) for i in range(len(first)))
