"""timm models as networks that return a pyramid, each in its family's way."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from medkit.errors import InputError, did_you_mean

LEVELS = 4
"""Levels of the pyramid of a network all of whose blocks are alike."""
ANY_SIZE = "dynamic_img_size"
"""The argument by which timm's transformers take images of sizes other than the one they are made for."""
REFUSED = (RuntimeError, AssertionError, AttributeError, TypeError, ValueError, IndexError, NotImplementedError)
"""What timm's networks raise for sizes and arguments that they do not take."""


@functools.cache
def outline(model: str) -> Any:
    """A timm model without memory for its weights: its class, its blocks and what it says about them."""
    if not timm.is_model(model):
        hint = did_you_mean(model, timm.list_models()) or "timm.list_models() names them all"
        raise InputError(f"timm has no model named '{model}'", hint=hint)
    with torch.device("meta"):
        return timm.create_model(model)


def takes(model: str, argument: str) -> bool:
    """Whether the class of a timm model, or one that it passes arguments on to, has an argument of that name."""
    for kind in type(outline(model)).__mro__:
        known = inspect.signature(kind.__init__).parameters  # type: ignore[misc]
        if argument in known:
            return True
        if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
            return False
    return False


def is_plain(model: str) -> bool:
    """Whether all blocks of a model have the same stride and width, as in a plain vision transformer."""
    levels = getattr(outline(model), "feature_info", [])
    alike = {(level["reduction"], level["num_chs"]) for level in levels}
    whole = outline(model)
    return len(levels) > 1 and len(alike) == 1 and hasattr(whole, "prune_intermediate_layers")


def evenly(blocks: int, levels: int = LEVELS) -> list[int]:
    """Which of ``blocks`` end a level, if all ``levels`` should be equally deep: 2, 5, 8, 11 of 12."""
    levels = min(levels, blocks)
    return [(i + 1) * blocks // levels - 1 for i in range(levels)]


@dataclass(frozen=True)
class Design:
    """Everything that decides an encoder's network, except its weights; the fields are those of the encoder."""

    model: str
    in_channels: int = 1
    stem_stride: int | None = None
    depth: int | None = None
    image_size: tuple[int, int] | None = None

    @property
    def own_size(self) -> tuple[int, int]:
        """Height and width of the images that it is made for."""
        if self.image_size is not None:
            return self.image_size
        height, width = outline(self.model).pretrained_cfg["input_size"][1:]
        return int(height), int(width)

    @property
    def options(self) -> dict[str, Any]:
        """The model's own arguments."""
        found: dict[str, Any] = {"in_chans": self.in_channels}
        if takes(self.model, ANY_SIZE):
            found[ANY_SIZE] = True
        if self.image_size is not None and takes(self.model, "img_size"):
            found["img_size"] = self.image_size
        return found

    def whole(self) -> Any:
        """The model with its classifier, without memory for its weights."""
        with torch.device("meta"):
            return timm.create_model(self.model, **self.options)

    def build(self, tag: str | None = None) -> Any:
        """The network, its weights drawn, or timm's own weights ``tag`` (empty: the model's default).

        A network all of whose blocks are alike gives the ends of its quarters, others timm's own pyramid.
        """
        name = f"{self.model}.{tag}" if tag else self.model
        pretrained = tag is not None
        net: Any
        if is_plain(self.model):
            whole: Any = timm.create_model(name, pretrained=pretrained, **self.options)
            ends = evenly(len(whole.feature_info))
            if self.depth is not None and self.depth > len(ends):
                raise IndexError(self.depth)
            net = Blocks(whole, ends[: self.depth])
        else:
            levels: dict[str, Any] = {} if self.depth is None else {"out_indices": tuple(range(self.depth))}
            net = timm.create_model(name, pretrained=pretrained, features_only=True, **levels, **self.options)
        self._set_stem(net)
        return net

    def declared(self, net: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Channels and strides of a network as timm has them, with the stem's stride."""
        if isinstance(net, Blocks):
            return net.channels, net.strides
        strides = [int(stride) for stride in net.feature_info.reduction()]
        halved = self.stem_stride == 1 and first_convolution(outline(self.model)).stride[0] == 2
        return (
            tuple(int(channels) for channels in net.feature_info.channels()),
            tuple(stride // 2 if halved else stride for stride in strides),
        )

    def _set_stem(self, net: nn.Module) -> None:
        if self.stem_stride is None:
            return
        first = first_convolution(net)
        if first.stride[0] == self.stem_stride:
            return
        if first.stride[0] != 2 or self.stem_stride != 1:
            raise InputError(
                f"the first convolution has stride {first.stride[0]}, which cannot become {self.stem_stride}"
            )
        first.stride = (1, 1)


def first_convolution(net: nn.Module) -> nn.Conv2d:
    return next(module for module in net.modules() if isinstance(module, nn.Conv2d))


class Blocks(nn.Module):
    """Maps after some blocks of a model whose blocks are alike, each passed through the model's last norm.

    The norm is what makes pretrained maps comparable. Blocks after the last one, and the classifier, are gone.
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


def names_in(net: nn.Module, whole: nn.Module) -> Mapping[str, str]:
    """The network's names of a whole model's tensors, by timm's: ``stages.0.x`` is ``stages_0.x`` in a pyramid."""
    own = net.state_dict()
    found = {}
    for name in whole.state_dict():
        for mine in (name, name.replace(".", "_", 1), f"model.{name}", f"body.{name}"):
            if mine in own:
                found[name] = mine
                break
    return found
