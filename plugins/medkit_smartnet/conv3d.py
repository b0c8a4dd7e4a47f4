"""Volume segmentation: a fresh slice decoder and 3-D convolutions over the stacked maps."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medkit.api import Channels, MaskClasses, Strides
from medkit.parts.convblocks import Conv3d, initialise_decoder, initialise_head
from medkit.parts.decoders import UNetDecoder
from medkit.parts.depths import depths

Width = Annotated[int, Field(gt=0)]


class Factorised3d(nn.Sequential):
    """A 3x3 convolution within slices, then one of 3 across them, with ``inputs`` channels in between ((2+1)D).

    A different function from a 3x3x3 convolution, with 12 in place of 27 weights for a pair of channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv3d(inputs, inputs, (1, 3, 3), padding=(0, 1, 1)),
            nn.Conv3d(inputs, outputs, (3, 1, 1), padding=(1, 0, 0)),
        )


class Conv3DTail(nn.Module):
    """Two Conv3d-BN-ReLU and a Conv3d to logit maps: (B,C,D,H,W) to (B,outputs,D,H,W), channels last throughout."""

    def __init__(self, width: int, factorised: bool = False, outputs: int = 1) -> None:
        super().__init__()
        conv = Factorised3d if factorised else Conv3d
        self.conv1, self.bn1 = conv(width, width), nn.BatchNorm3d(width)
        self.conv2, self.bn2 = conv(width, width), nn.BatchNorm3d(width)
        self.head = Conv3d(width, outputs)
        initialise_decoder(self)
        initialise_head(self.head)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last_3d)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.head(x)


class Conv3DSegmenter(nn.Module):
    """Segment a volume: a freshly drawn U-Net decoder slice by slice, then 3-D convolutions (thesis part B, Fig. 10c).

    Slice maps (B,D,C,H,W) to logits (B,D,H,W), with K classes (B,D,K+1,H,W), with overlapping ones (B,D,K,H,W). Each
    volume goes through the 3-D convolutions on its own and at its own depth, so padding affects neither logits nor
    batch-norm statistics (which, in training, are then those of one volume, as with the published batch of 1).

    Parameters
    ----------
    widths:
        Channels of the slice decoder's blocks.
    attention:
        Blocks of the slice decoder that have SCSE.
    factorised:
        Convolve within slices and then across them, in place of 3x3x3 convolutions: a different function, with fewer
        weights, that is not in the thesis.
    """

    task: ClassVar[str] = "segmentation"

    def __init__(
        self,
        channels: Channels,
        strides: Strides,
        widths: tuple[Width, ...] = (256, 128, 64, 32, 16),
        attention: Literal["all", "last", "none"] = "all",
        factorised: bool = False,
        classes: MaskClasses = None,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.decoder = UNetDecoder(channels, strides, tuple(widths), attention)
        self.tail = Conv3DTail(self.decoder.width, factorised, 1 if classes is None else classes.outputs)

    def slices(self, features: list[Tensor]) -> Tensor:
        return self.decoder(features)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        volumes = []
        for volume, depth in zip(features, depths(lengths, features.shape[1]), strict=True):
            maps = self.tail(volume[:depth].transpose(0, 1)[None])[0]
            found = maps[0] if self.classes is None else maps.transpose(0, 1)
            missing = features.shape[1] - depth
            volumes.append(torch.cat([found, found.new_zeros(missing, *found.shape[1:])]) if missing else found)
        return torch.stack(volumes)
