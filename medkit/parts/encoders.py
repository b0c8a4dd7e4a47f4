"""Any timm backbone as a feature pyramid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.parts.encoder_models import REFUSED, Blocks, Design, names_in, outline, takes
from medkit.parts.encoder_shapes import (
    first_line,
    is_channels_last,
    lack,
    multiple_of,
    refused_size,
    sizes_of,
)
from medkit.parts.encoder_stages import stages_of
from medkit.parts.encoder_tokens import has_tokens, tokens_of
from medkit.parts.encoder_weights import load_backbone, statistics_of
from medkit.registry.marks import Weights

Side = Annotated[int, Field(gt=0)]


class TimmEncoder(nn.Module):
    """A timm backbone as a feature pyramid, shallow to deep.

    Shapes: (N,C,H,W) to a list of (N,channels[i],H/strides[i],W/strides[i]), sizes rounded up: where the network itself
    would round down or fail, the image is padded with zeros below and on the right. For plain vision transformers the
    pyramid is what four evenly spaced blocks give, all at the stride of a patch and through the last norm; they also
    have :attr:`tokens`. Nothing is ever downloaded unless ``weights`` says ``hub:``.

    Parameters
    ----------
    model:
        Name of a timm model, such as ``resnet50``, ``swin_tiny_patch4_window7_224`` or ``vit_small_patch16_dinov3``.
    in_channels:
        Channels of the input; pretrained weights of colour images are summed over colours for 1.
    weights:
        null: drawn at random; ``PATH.safetensors``: a file with this model's weights; ``hub:TAG``: downloaded by timm
        (``hub:`` alone takes the model's default tag).
    stem_stride:
        1 keeps the first convolution at full resolution, as the published SMART-Net does; null is timm's own.
    depth:
        Levels of the pyramid to keep, from the shallowest; deeper layers are not built. null keeps all. Small images
        gain nothing from a deepest map of 2x2.
    image_size:
        Side, or height and width, of the images that positions and windows are made for; null is the model's own. Most
        networks take images of other sizes all the same; the others say so. Pretrained positions are resampled.
    normalize:
        What is done with images of values in [0,1]: ``pretrained`` uses the mean and deviation that the weights were
        trained with, averaged over colours if images have another number of channels; a pair is the mean and
        deviation for all channels; null: nothing. It is saved with the weights.
    prefix:
        What precedes this network's names in the file of ``weights``, such as ``teacher.backbone.``; null: found, and
        reported.
    """

    net: Any
    mean: Tensor
    deviation: Tensor
    patch: tuple[int, int]
    """Height and width of a patch; only plain vision transformers have it, and with it :attr:`tokens`."""
    prefix_tokens: int
    """Tokens before those of the patches: class, distillation, registers."""
    width: int
    """Channels of a token."""

    def __init__(
        self,
        model: str = "resnet18",
        in_channels: Annotated[int, Field(gt=0)] = 1,
        weights: Weights | None = None,
        stem_stride: Literal[1, 2] | None = None,
        depth: Annotated[int, Field(gt=0)] | None = None,
        image_size: Side | tuple[Side, Side] | None = None,
        normalize: Literal["pretrained"] | tuple[float, float] | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__()
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.design = Design(model, in_channels, stem_stride, depth, size)
        tag = weights.removeprefix("hub:") if weights is not None and weights.startswith("hub:") else None
        self.net = _built(self.design, tag)
        self.channels, self.strides = self.design.declared(self.net)
        if normalize is not None:
            mean, deviation = statistics_of(model, tag, in_channels) if normalize == "pretrained" else normalize
            self.register_buffer("mean", torch.as_tensor(mean).expand(in_channels).clone())
            self.register_buffer("deviation", torch.as_tensor(deviation).expand(in_channels).clone())
        if isinstance(self.net, Blocks) and has_tokens(self.net.model):
            height, width = self.net.model.patch_embed.patch_size
            self.patch = (int(height), int(width))
            self.prefix_tokens = int(self.net.model.num_prefix_tokens)
            self.width = int(self.net.model.embed_dim)
        if weights is not None and tag is None:
            load_backbone(self, self.design, Path(weights), prefix)

    @property
    def unpadded(self) -> bool:
        """Whether maps may be smaller than promised, because not all convolutions are padded."""
        return sizes_of(self.design).unpadded

    @property
    def only_size(self) -> tuple[int, int] | None:
        """Height and width of the images that the network takes, if it takes no others."""
        return sizes_of(self.design).only

    def forward(self, x: Tensor, *, as_tokens: bool = False, keep: Tensor | None = None) -> Any:
        """The pyramid; ``as_tokens`` and ``keep`` are for :attr:`tokens`.

        Raises
        ------
        InputError
            if the network does not take images of this size, with what to set.
        """
        height, width = x.shape[-2:]
        x = self._padded(x)
        if "mean" in self._buffers:
            x = (x - self.mean[:, None, None]) / self.deviation[:, None, None]
        try:
            if as_tokens:
                return tokens_of(self.net.model, x, keep)
            maps = list(self.net(x))
        except torch.OutOfMemoryError:
            raise
        except REFUSED as error:
            if self.only_size not in (None, (height, width)):
                raise refused_size(self.design, (height, width)) from error
            raise
        if is_channels_last(self.net):
            maps = [m.permute(0, 3, 1, 2) for m in maps]
        if x.shape[-2:] != (height, width):
            maps = [m[:, :, : -(-height // s), : -(-width // s)] for m, s in zip(maps, self.strides, strict=True)]
        if lack([m.shape[1:] for m in maps], self.channels, self.strides, (height, width)) != 0:
            self._check(maps, (height, width))
        return maps

    def _padded(self, x: Tensor) -> Tensor:
        """``x`` with rows added below and columns on the right until the network takes its sides."""
        deepest = math.lcm(*self.strides)
        missing = [-side % deepest for side in x.shape[-2:]]
        if not any(missing) or multiple_of(self.design, deepest) == 1:
            return x
        return F.pad(x, (0, missing[1], 0, missing[0]))

    @torch.compiler.disable
    def _check(self, maps: list[Tensor], size: tuple[int, int]) -> None:
        """Refuse maps that are not those promised, unless they are smaller for lack of padding."""
        found = [tuple(m.shape[1:]) for m in maps]
        if lack(found, self.channels, self.strides, size) is not None and self.unpadded:
            return
        if self.only_size not in (None, size):
            raise refused_size(self.design, size)
        what = f"timm's '{self.design.model}' makes maps {found} of images of {size[0]} x {size[1]}"
        raise InputError(f"{what}, which are not {self.channels} channels of strides {self.strides}")

    @property
    def tokens(self) -> Callable[..., Tensor]:
        """``tokens(x, keep=None)``: (N,C,H,W) to (N,P+K,D), which only plain vision transformers have.

        P tokens come before the K patches that ``keep`` (N,K) names by their indices in row order; null keeps all.
        D is :attr:`width`, P :attr:`prefix_tokens`, and patches have the size :attr:`patch`. The last level of the
        pyramid is made of all patches.
        """
        if "patch" not in self.__dict__:
            raise AttributeError("tokens")
        return self._tokens

    def _tokens(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        # A call of the module, so that what is wrapped around it (divided weights, compilation) applies here too.
        tokens: Tensor = self(x, as_tokens=True, keep=keep)
        return tokens

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        """Named groups of layers from input to output, together every parameter once.

        In networks with attention they are the stem and each block, in others the stem and each level.
        """
        return stages_of(self.net, outline(self.design.model))

    def no_weight_decay(self) -> set[str]:
        """Parameters that timm exempts from weight decay, such as positional and class embeddings."""
        whole = outline(self.design.model)
        if not hasattr(whole, "no_weight_decay"):
            return set()
        names = names_in(self.net, whole)
        return {f"net.{names[name]}" for name in whole.no_weight_decay() if name in names}


def _built(design: Design, tag: str | None) -> Any:
    """The network with weights drawn, or timm's ``tag``; what timm refuses is an :class:`InputError`."""
    model, size = design.model, design.image_size
    outline(model)
    if size is not None and not takes(model, "img_size"):
        unsized = Design(model, design.in_channels)
        if sizes_of(unsized).only not in (None, size):
            raise refused_size(unsized, size)
    sized = "" if size is None else f" for images of {size[0]} x {size[1]}"
    try:
        return design.build(tag)
    except InputError:
        raise
    except IndexError as error:
        what = f"timm's '{model}' has fewer than {design.depth} levels, the 'depth' asked for"
        raise InputError(what, hint="ask for fewer, or leave 'depth' out") from error
    except (OSError, ValueError) as error:
        if tag is None:
            raise InputError(f"timm's '{model}' cannot be built{sized}: {first_line(error)}") from error
        raise InputError(
            f"weights 'hub:{tag}' cannot be fetched: {first_line(error)}",
            hint="without a network, give the path of a safetensors file",
        ) from error
    except REFUSED as error:
        hint = "sides have to be multiples of its patches and windows" if sized else None
        raise InputError(
            f"timm's '{model}' cannot return a feature pyramid{sized}: {first_line(error)}", hint=hint
        ) from error
