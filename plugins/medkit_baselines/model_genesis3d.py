"""Model Genesis as a pretext of an encoder of volumes: restore a patch from a distorted one."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from medkit.api import Channels, Strides3d
from medkit.parts.unet3d import UNetDecoder3d, cut
from medkit_baselines.genesis_transforms import BLOCKS, Chances
from medkit_baselines.model_genesis import Chance, Restoring


class ModelGenesis3D(Restoring):
    """Model Genesis (Zhou et al. 2021) on patches of volumes: undo shuffling, intensity maps and painting.

    Shapes: pyramid of an encoder of volumes to (N,C,D,H,W), the reconstruction before its sigmoid; mean square error.
    Each patch of a batch, in [0,1], is distorted separately, on the CPU and anew in every training step; the target is
    the patch, flipped in the same way. Sides of blocks and boxes are proportional to the patch's, as published for
    cubes of 64x64x32. The published network is a U-Net of its own (``baselines:genesis_unet3d``); here the decoder is
    that of ``medkit:unet3d``, on any encoder. Evaluation reconstructs undistorted volumes.

    Parameters
    ----------
    image_channels:
        Channels of the volumes.
    flip:
        Probability of a flip, and again of a second and a third.
    shuffle:
        Probability of permuting the voxels inside small blocks.
    intensity:
        Probability of a non-linear map of intensities.
    paint:
        Probability of noise in boxes or around them.
    inside:
        Probability that noise is inside the boxes; otherwise it is everywhere else.
    blocks:
        Number of blocks that are permuted; the published 10,000 cover a voxel of the published cubes about twice.
    convolutions:
        Convolutions per level of the decoder.
    """

    dimensions: ClassVar[int] = 3

    def __init__(
        self,
        channels: Channels,
        strides: Strides3d,
        image_channels: Annotated[int, Field(gt=0)] = 1,
        flip: Chance = 0.4,
        shuffle: Chance = 0.5,
        intensity: Chance = 0.9,
        paint: Chance = 0.9,
        inside: Chance = 0.2,
        blocks: Annotated[int, Field(gt=0)] = BLOCKS,
        convolutions: Annotated[int, Field(gt=0)] = 1,
    ) -> None:
        decoder = UNetDecoder3d(channels, strides, convolutions)
        head = nn.Conv3d(decoder.width, image_channels, 1)
        super().__init__(decoder, head, Chances(flip, shuffle, intensity, paint, inside), blocks)

    def fitted(self, output: Tensor, target: Tensor) -> Tensor:
        return cut(output, target.shape)
