"""Which image sizes a network takes, and what maps it makes from them, found by passes without numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from medkit.errors import InputError
from medkit.parts.encoder_models import ANY_SIZE, REFUSED, Design, outline, takes

Size = tuple[int, int]
SMALLER = 4
"""By how many pixels a map may be smaller if its convolutions are not padded."""


@dataclass(frozen=True)
class Sizes:
    """What a network takes.

    Parameters
    ----------
    unpadded:
        Not all convolutions are padded, so maps may be smaller than the image's size over the stride.
    multiple:
        Sides that are not a multiple of it have to be padded for the network; 1: it takes any side.
    only:
        The one size that it takes; None: any.
    """

    unpadded: bool = False
    multiple: int = 1
    only: Size | None = None


@functools.lru_cache(maxsize=256)
def sizes_of(design: Design) -> Sizes:
    """Pass images of three sizes through the network, on a device that computes only shapes.

    Raises
    ------
    InputError
        if it does not take images of the size that it is made for, or its maps are not those that it declares.
    """
    with torch.device("meta"):
        net = design.build().eval()
    channels, strides = design.declared(net)
    height, width = design.own_size
    made = f"timm's '{design.model}' for images of {height} x {width} and {design.in_channels} channels"
    try:
        maps = _maps(net, design.in_channels, (height, width))
    except REFUSED as error:
        hint = "sides have to be multiples of its patches and windows" if design.image_size is not None else None
        raise InputError(f"{made} does not work: {first_line(error)}", hint=hint) from error
    smaller = lack(maps, channels, strides, (height, width))
    if smaller is None:
        raise InputError(f"{made} makes maps {maps}, which are not {channels} channels of strides {strides}")
    deepest = math.lcm(*strides)
    more = (height + 4 * deepest, width + 6 * deepest)
    larger = _tried(net, design, more)
    if larger is not None and _may_be_bound(design.model):
        with torch.random.fork_rng(devices=[]):
            larger = _tried(design.build().eval(), design, more, "cpu")
    if larger is None:
        return Sizes(smaller > 0, only=(height, width))
    if smaller or larger:
        return Sizes(unpadded=True)
    odd = _tried(net, design, (height + deepest + 1, width + 3))
    return Sizes(multiple=1 if odd == 0 else deepest)


@torch.compiler.disable
def multiple_of(design: Design, deepest: int) -> int:
    """What the sides of images have to be multiples of: the deepest stride if that cannot be found out."""
    try:
        return sizes_of(design).multiple
    except InputError:
        return deepest


def _may_be_bound(model: str) -> bool:
    """Whether timm says that a network is bound to one size: only a CPU notices look-ups past the end of a table."""
    return bool(outline(model).pretrained_cfg.get("fixed_input_size")) and not takes(model, ANY_SIZE)


def refused_size(design: Design, size: Size) -> InputError:
    """An image of a size other than a network is made for."""
    height, width = size
    own = " x ".join(map(str, design.own_size))
    what = f"timm's '{design.model}' is made for images of {own} here, and this one is {height} x {width}"
    if takes(design.model, "img_size"):
        hint = f"write 'image_size: [{height}, {width}]' for the encoder, or resize images to {own}"
        return InputError(what, hint=hint)
    return InputError(what, hint=f"it takes no other size: resize images to {own}, or choose another model")


def lack(maps: Sequence[tuple[int, ...]], channels: Sequence[int], strides: Sequence[int], size: Size) -> int | None:
    """By how many pixels maps (C,H,W) are smaller than ``size`` over their strides; None if they are not such maps."""
    if tuple(shape[0] for shape in maps) != tuple(channels):
        return None
    most = 0
    for (_, *sides), stride in zip(maps, strides, strict=True):
        for side, whole in zip(sides, size, strict=True):
            missing = -(-whole // stride) - side
            if not 0 <= missing <= SMALLER:
                return None
            most = max(most, missing)
    return most


def is_channels_last(net: nn.Module) -> bool:
    """Whether a network's maps are (N,H,W,C)."""
    return str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")


def first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _maps(net: nn.Module, channels: int, size: Size, device: str = "meta") -> list[tuple[int, int, int]]:
    """Channels, height and width of each map."""
    with torch.device(device), torch.no_grad():
        maps = net(torch.zeros(2, channels, *size))
    last = is_channels_last(net)
    return [(m.shape[3], m.shape[1], m.shape[2]) if last else tuple(m.shape[1:]) for m in maps]


def _tried(net: nn.Module, design: Design, size: Size, device: str = "meta") -> int | None:
    try:
        return lack(_maps(net, design.in_channels, size, device), *design.declared(net), size)
    except REFUSED:
        return None
