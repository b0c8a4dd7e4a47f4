"""InceptionV3 for grey images, as a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torchvision.models.inception import BasicConv2d, Inception3

from medkit.api import InputError, Weights
from medkit.parts.weights import read_safetensors

FIRST = "Conv2d_1a_3x3.conv.weight"
SMALLEST = 75  # pixels; below, nothing is left of the deepest map
STAGES = {
    "stem": ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"),
    "conv": ("Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    "mixed5": ("Mixed_5b", "Mixed_5c", "Mixed_5d"),
    "mixed6": ("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    "mixed7": ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
}
"""Layers up to each map of the pyramid; a maximum pool of stride 2 comes before ``conv`` and before ``mixed5``."""


class InceptionV3(nn.Module):
    """InceptionV3 (Szegedy et al. 2016) with torchvision's layers and names, for grey images.

    Shapes: (N,C,H,W) to five maps of 64, 192, 288, 768 and 2048 channels; its convolutions are not padded, so 512x512
    becomes 2048x14x14. The auxiliary classifier belongs to the head (``pedxnet:view_class``, ``auxiliary``), which is
    left behind when the encoder is taken on to another task.

    Colour weights make a colour network: a grey image is repeated to three channels and mapped from [0,1] to
    [-1,1], the range that torchvision's ImageNet weights were trained on.

    Parameters
    ----------
    in_channels:
        Channels of the input.
    weights:
        null: drawn at random; ``PATH.safetensors``: a file with torchvision's names, whose classifiers are left out;
        ``hub:imagenet``: torchvision's, downloaded.
    init:
        How weights are drawn: ``xavier`` (uniform, as in the thesis) or ``torch`` (PyTorch's own).
    official_imagenet_input:
        Leave images for colour weights in [0,1], as the published code does by mistake.
    """

    channels: tuple[int, ...] = (64, 192, 288, 768, 2048)
    strides: tuple[int, ...] = (2, 4, 8, 16, 32)
    unpadded: ClassVar[bool] = True

    def __init__(
        self,
        in_channels: Annotated[int, Field(gt=0)] = 1,
        weights: Weights | None = None,
        init: Literal["xavier", "torch"] = "xavier",
        official_imagenet_input: bool = False,
    ) -> None:
        super().__init__()
        tensors = None if weights is None else _read(weights)
        taken = in_channels if tensors is None else int(tensors[FIRST].shape[1])
        if taken != in_channels and (taken, in_channels) != (3, 1):
            what = f"the weights take {taken} channels, the images have {in_channels}"
            raise InputError(what, weights, f"set 'in_channels' to {taken} and give images of as many")
        self.in_channels, self.colour = in_channels, (taken, in_channels) == (3, 1)
        self.stretch = self.colour and not official_imagenet_input
        net = Inception3(num_classes=2, aux_logits=False, transform_input=False, init_weights=False)
        net.Conv2d_1a_3x3 = BasicConv2d(taken, 32, kernel_size=3, stride=2)
        for names in STAGES.values():
            for name in names:
                self.add_module(name, getattr(net, name))
        if tensors is not None:
            self._load(tensors, str(weights))
        elif init == "xavier":
            self.apply(_xavier)

    def _load(self, tensors: dict[str, Tensor], where: str) -> None:
        own = self.state_dict()
        wrong = [name for name, value in own.items() if name not in tensors or tensors[name].shape != value.shape]
        if wrong:
            raise InputError(f"{len(wrong)} tensors of InceptionV3 are missing or of another shape ({wrong[0]})", where)
        self.load_state_dict({name: tensors[name] for name in own})

    def forward(self, x: Tensor) -> list[Tensor]:
        if min(x.shape[2:]) < SMALLEST:
            size = f"{x.shape[2]}x{x.shape[3]}"
            what = f"InceptionV3 needs images of {SMALLEST}x{SMALLEST} pixels or more, these are {size}"
            raise InputError(what, hint="resize them to more in 'prepare', or take another encoder")
        if self.colour:
            x = x.expand(-1, 3, -1, -1)
        if self.stretch:
            x = 2 * x - 1
        maps = []
        for stage, names in STAGES.items():
            if stage in ("conv", "mixed5"):
                x = nn.functional.max_pool2d(x, kernel_size=3, stride=2)
            for name in names:
                x = getattr(self, name)(x)
            maps.append(x)
        return maps

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        """From input to output: ``stem``, ``conv``, ``mixed5``, ``mixed6``, ``mixed7``."""
        return [(stage, nn.ModuleList(getattr(self, name) for name in names)) for stage, names in STAGES.items()]


def _xavier(module: nn.Module) -> None:
    """Uniform Xavier weights; batch norms keep their ones and zeros."""
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)


def _read(weights: str) -> dict[str, Tensor]:
    if not weights.startswith("hub:"):
        tensors = read_safetensors(Path(weights))
        if FIRST not in tensors:
            raise InputError(f"the file holds no '{FIRST}', so it is not InceptionV3's", weights)
        return tensors
    if weights != "hub:imagenet":
        raise InputError(f"there are no weights named '{weights}'", hint="'hub:imagenet', or a safetensors file")
    from torchvision.models import Inception_V3_Weights

    try:
        found: dict[str, Tensor] = Inception_V3_Weights.IMAGENET1K_V1.get_state_dict(
            progress=False, check_hash=True, weights_only=True, map_location=torch.device("cpu")
        )
    except (OSError, RuntimeError) as error:
        hint = "without a network, give the path of a safetensors file"
        raise InputError(f"weights '{weights}' cannot be fetched: {str(error).splitlines()[0]}", hint=hint) from error
    return found
