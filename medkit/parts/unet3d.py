"""A U-Net's decoder over the pyramid of a 3-D encoder, and the segmentation head built on it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.parts.encoder_volumes import Triple
from medkit.parts.mask_losses import Form, MaskLoss, drawn_probability, image_and_mask, probabilities
from medkit.parts.resenc import ConvNorm, initialise
from medkit.protocols import Batch
from medkit.registry.marks import Channels, MaskClasses, Strides3d

Count = Annotated[int, Field(gt=0)]


class UNetDecoder3d(nn.Module):
    """A decoder like that for nnU-Net's residual encoder (Isensee et al. 2024): pyramid to (N,channels[0],D,H,W).

    From the deepest map on: a transposed convolution whose kernel and stride are the ratio of two levels' strides, the
    level's own map beside it, and ``convolutions`` of 3x3x3, with as many channels as that level has. The output of an
    encoder that begins at a stride is enlarged linearly to full resolution.

    Parameters
    ----------
    channels, strides:
        Of the encoder's pyramid.
    convolutions:
        At each level; nnU-Net has one with residual encoders.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[Triple], convolutions: int = 1) -> None:
        super().__init__()
        self.width, self.first = channels[0], tuple(strides[0])
        ups, blocks = [], []
        for (skip, inputs), (near, far) in zip(pairwise(channels), pairwise(strides), strict=True):
            if any(b % a for a, b in zip(near, far, strict=True)):
                raise InputError(
                    f"strides of {list(far)} are not multiples of {list(near)}: no map can be enlarged that way"
                )
            ratio = (far[0] // near[0], far[1] // near[1], far[2] // near[2])
            ups.append(nn.ConvTranspose3d(inputs, skip, ratio, ratio))
            sizes = [2 * skip, *[skip] * convolutions]
            blocks.append(nn.Sequential(*(ConvNorm(a, b, (3, 3, 3), active=True) for a, b in pairwise(sizes))))
        self.ups, self.blocks = nn.ModuleList(ups[::-1]), nn.ModuleList(blocks[::-1])
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.levels(features)[0]

    def levels(self, features: list[Tensor]) -> list[Tensor]:
        """The maps of all levels but the deepest, the finest first: that at full resolution, others at their
        strides."""
        x, found = features[-1], []
        for up, block, skip in zip(self.ups, self.blocks, reversed(features[:-1]), strict=True):
            depth, height, width = skip.shape[2:]
            x = block(torch.cat([up(x)[:, :, :depth, :height, :width], skip], 1))
            found.append(x)
        if self.first != (1, 1, 1):
            scale = tuple(map(float, self.first))
            found[-1] = F.interpolate(x, scale_factor=scale, mode="trilinear", align_corners=False)
        return found[::-1]


def cut(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (N,C,D,H,W) without what an encoder that rounds sizes up has added beyond ``size``."""
    depth, height, width = size[-3:]
    return maps[:, :, :depth, :height, :width]


class UNet3d(nn.Module):
    """Segment patches of volumes: nnU-Net's decoder, Dice and cross-entropy of voxels.

    Shapes: pyramid of an encoder of volumes to logits (N,1,D,H,W); for masks with K classes (N,K+1,D,H,W), for
    overlapping ones (N,K,D,H,W). Predictions are ``mask_probability`` (N,1,D,H,W) and, as the ``probability`` of a
    volume, the largest of its voxels (of several classes, above 0.5 where one is predicted).

    With ``deep_supervision`` the decoder's coarser maps are trained too (Isensee et al., Nature Methods 18:203, 2021,
    Methods): logits of every resolution but the two lowest, each against the mask at its voxels, with weights that
    halve from one resolution to the next and add up to 1. ``forward`` gives a list of maps then, the finest first, in
    training; predictions, and losses on held-out patches, are those of the finest alone.

    Parameters
    ----------
    convolutions:
        At each level of the decoder.
    objective:
        ``dice``, or ``dice_bce`` with a cross-entropy of voxels, as in nnU-Net.
    deep_supervision:
        Whether coarser maps are trained besides the finest one; the encoder needs four resolutions or more.
    """

    dimensions: ClassVar[int] = 3

    def __init__(
        self,
        channels: Channels,
        strides: Strides3d,
        convolutions: Count = 1,
        objective: Form = "dice_bce",
        deep_supervision: bool = False,
        classes: MaskClasses = None,
    ) -> None:
        super().__init__()
        self.decoder = UNetDecoder3d(channels, strides, convolutions)
        outputs = 1 if classes is None else classes.outputs
        self.head = nn.Conv3d(self.decoder.width, outputs, 1)
        initialise(self.head)
        coarser = channels[1:-2] if deep_supervision else ()
        if deep_supervision and not coarser:
            what = f"deep supervision leaves out the two lowest resolutions, and the encoder has {len(channels)}"
            raise InputError(what, hint="leave 'deep_supervision' out, or give the encoder four stages or more")
        self.coarser = nn.ModuleList(nn.Conv3d(width, outputs, 1) for width in coarser)
        self.coarser.apply(initialise)
        self.strides = [tuple(stride) for stride in strides]
        self.classes, self.criterion = classes, MaskLoss(objective, classes)

    def view(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return image_and_mask(batch)

    def forward(self, features: list[Tensor]) -> Tensor | list[Tensor]:
        if not (self.coarser and self.training):
            return self.head(self.decoder(features))  # type: ignore[no-any-return]
        finest, *others = self.decoder.levels(features)
        return [self.head(finest), *(layer(maps) for layer, maps in zip(self.coarser, others, strict=False))]

    def loss(self, output: Tensor | list[Tensor], target: Tensor) -> dict[str, Tensor]:
        finest, *others = output if isinstance(output, list) else [output]
        terms: dict[str, Tensor] = self.criterion(cut(finest, target.shape), target)
        if not others:
            return terms
        weights = [0.5**k for k in range(1 + len(others))]
        terms = {name: term * (weights[0] / sum(weights)) for name, term in terms.items()}
        for weight, maps, (depth, height, width) in zip(weights[1:], others, self.strides[1:], strict=False):
            there = target[:, :, ::depth, ::height, ::width]  # the voxel at each corner, nearest of those it stands for
            for name, term in self.criterion(maps, there).items():
                terms[name] = terms[name] + term * (weight / sum(weights))
        return terms

    def predict(self, output: Tensor) -> dict[str, Tensor]:
        logits = output.float() if output.dtype.itemsize < 4 else output
        found = drawn_probability(logits, self.classes).flatten(1).amax(1)
        return {"mask_probability": probabilities(logits, self.classes), "probability": found}
