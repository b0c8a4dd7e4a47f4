"""timm models as networks that return a pyramid, each in the way that its family has."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from medkit.errors import InputError, did_you_mean

LEVELS = 4
"""Levels of the pyramid of a network all of whose blocks have one stride."""


@functools.cache
def outline(model: str) -> Any:
    """A timm model without memory for its weights: its class, its blocks and what it says of them."""
    if not timm.is_model(model):
        hint = did_you_mean(model, timm.list_models()) or "timm.list_models() names them all"
        raise InputError(f"timm has no model named '{model}'", hint=hint)
    with torch.device("meta"):
        return timm.create_model(model)


def takes(model: str, argument: str) -> bool:
    """Whether the class of a timm model, or one that it hands arguments on to, has one of that name."""
    for kind in type(outline(model)).__mro__:
        known = inspect.signature(kind.__init__).parameters  # type: ignore[misc]
        if argument in known:
            return True
        if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
            return False
    return False


def is_plain(model: str) -> bool:
    """Whether all blocks of a model have the same stride and width, as those of a plain vision transformer have."""
    levels = getattr(outline(model), "feature_info", [])
    alike = {(level["reduction"], level["num_chs"]) for level in levels}
    return len(levels) > 1 and len(alike) == 1 and hasattr(outline(model), "forward_intermediates")


def evenly(blocks: int, levels: int = LEVELS) -> list[int]:
    """Which of ``blocks`` end a level, if ``levels`` are to be as deep as each other: 2, 5, 8, 11 of 12."""
    levels = min(levels, blocks)
    return [(i + 1) * blocks // levels - 1 for i in range(levels)]


class Blocks(nn.Module):
    """Maps after some blocks of a model whose blocks are alike, each as the model's last norm makes it.

    The norm is what pretraining has made maps comparable by. Blocks behind the last one, and the classifier, are gone.
    """

    def __init__(self, model: Any, ends: Sequence[int]) -> None:
        super().__init__()
        self.ends = model.prune_intermediate_layers(list(ends), prune_norm=False)
        self.model = model
        infos = [model.feature_info[i] for i in self.ends]
        self.channels = tuple(int(info.get("num_chs_norm", info["num_chs"])) for info in infos)
        self.strides = tuple(int(info["reduction"]) for info in infos)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.model.forward_intermediates(
            x, indices=self.ends, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return maps


def create(
    model: str, name: str, in_channels: int, *, pretrained: bool, depth: int | None, options: dict[str, Any]
) -> Any:
    """The network; ``name`` is the model's with the tag of its weights, ``options`` are constructor's arguments.

    A network all of whose blocks are alike gives the ends of its quarters, others what timm has as their pyramid.
    """
    if is_plain(model):
        whole: Any = timm.create_model(name, pretrained=pretrained, in_chans=in_channels, **options)
        ends = evenly(len(whole.feature_info))
        if depth is not None and depth > len(ends):
            raise IndexError(depth)
        return Blocks(whole, ends[:depth])
    if depth is not None:
        options = {**options, "out_indices": tuple(range(depth))}
    return timm.create_model(name, pretrained=pretrained, features_only=True, in_chans=in_channels, **options)
