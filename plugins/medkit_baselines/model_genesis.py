"""Model Genesis as a pretext of the shared encoder: restore a slice from a distorted one."""

from __future__ import annotations

import random
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.api import Batch, Channels, Strides
from medkit.parts.convblocks import fit, initialise_head
from medkit.parts.decoders import UNetDecoder
from medkit_baselines.genesis_transforms import Chances, distort

Width = Annotated[int, Field(gt=0)]
Chance = Annotated[float, Field(ge=0, le=1)]


class Restoring(nn.Module):
    """A decoder and a last layer that undo the distortions of Model Genesis, in slices or in patches of volumes.

    Parameters
    ----------
    decoder, head:
        From an encoder's pyramid to the reconstruction before its sigmoid.
    chances:
        Probability of each distortion.
    blocks:
        Number of blocks that are permuted.
    """

    def __init__(self, decoder: nn.Module, head: nn.Conv2d | nn.Conv3d, chances: Chances, blocks: int) -> None:
        super().__init__()
        self.chances, self.blocks = chances, blocks
        self.decoder, self.head = decoder, head
        initialise_head(self.head)

    def view(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images: Tensor = batch["image"]
        # One number from torch's generator, which the engine seeds at every step, determines all that follows.
        seeds = np.random.SeedSequence(int(torch.randint(2**62, ()))).spawn(len(images))
        pairs = [self._pair(image, seed) for image, seed in zip(images.cpu().numpy(), seeds, strict=True)]
        inputs, targets = (torch.from_numpy(np.stack(found)).to(images) for found in zip(*pairs, strict=True))
        return inputs, targets

    def _pair(self, image: np.ndarray, seed: np.random.SeedSequence) -> tuple[np.ndarray, np.ndarray]:
        gates, noise = seed.spawn(2)
        chance = random.Random(int.from_bytes(gates.generate_state(4).tobytes(), "little"))
        return distort(image, chance, np.random.default_rng(noise), self.chances, self.blocks)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.head(self.decoder(features))

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"mse": F.mse_loss(torch.sigmoid(self.fitted(output, target)), target)}

    def fitted(self, output: Tensor, target: Tensor) -> Tensor:
        """The reconstruction at the size of the target."""
        return fit(output, target.shape)

    def predict(self, output: Tensor) -> dict[str, Tensor]:
        return {"reconstruction": torch.sigmoid(output.float())}


class ModelGenesis(Restoring):
    """Model Genesis (Zhou et al. 2021) on slices: undo shuffling, intensity maps and painting; mean square error.

    Shapes: pyramid to (N,C,H,W), the reconstruction before its sigmoid. Each image of a batch, in [0,1], is distorted
    separately, on the CPU and anew in every training step; the target is the image, flipped in the same way. The
    published cubes become slices: blocks and boxes lose their depth, and their sides are proportional to the image's.
    The thesis trained this pretext on its ResNet-50 and does not say with which decoder; this is a U-Net's with skips,
    as published for the cubes, without attention. Evaluation reconstructs undistorted images.

    Parameters
    ----------
    widths:
        Channels after each block of the decoder; the last is the block at full resolution.
    image_channels:
        Channels of the image.
    flip:
        Probability of a flip, and again of a second and a third.
    shuffle:
        Probability of permuting the pixels inside small blocks.
    intensity:
        Probability of a non-linear map of intensities.
    paint:
        Probability of noise in boxes or around them.
    inside:
        Probability that noise is inside the boxes; otherwise it is everywhere else.
    blocks:
        Number of blocks that are permuted. 10,000, as published, cover a voxel of the published cubes about twice, but
        a pixel of a 256x256 slice some 24 times; fewer leave more of the image and take less time.
    """

    def __init__(
        self,
        channels: Channels,
        strides: Strides,
        widths: tuple[Width, ...] = (256, 128, 64, 32, 16),
        image_channels: Annotated[int, Field(gt=0)] = 1,
        flip: Chance = 0.4,
        shuffle: Chance = 0.5,
        intensity: Chance = 0.9,
        paint: Chance = 0.9,
        inside: Chance = 0.2,
        blocks: Annotated[int, Field(gt=0)] = 10_000,
    ) -> None:
        decoder = UNetDecoder(channels, strides, tuple(widths))
        head = nn.Conv2d(decoder.width, image_channels, 3, padding=1)
        super().__init__(decoder, head, Chances(flip, shuffle, intensity, paint, inside), blocks)
