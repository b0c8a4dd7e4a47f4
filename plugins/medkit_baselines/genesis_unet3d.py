"""The 3-D U-Net of Models Genesis, for volumes and for the weights published with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.api import Channels, InputError, Strides
from medkit.parts.convblocks import Conv3d
from medkit.parts.weights import read_safetensors
from medkit_baselines.volumes import each_volume, enlarge

LAST = "out_tr."
"""Prefix of the last layer's names: it was trained for reconstruction, so a segmentation draws it anew."""


class _Conv(nn.Module):
    """Convolution, normalisation by the statistics of the current volume (always, as published), ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = Conv3d(inputs, outputs)
        self.bn1 = nn.BatchNorm3d(outputs, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn1(self.conv1(x)))


class Down(nn.Module):
    """Two convolutions of the encoder half, (N,C,D,H,W) to the same number of voxels."""

    def __init__(self, inputs: int, middle: int, outputs: int) -> None:
        super().__init__()
        self.ops = nn.Sequential(_Conv(inputs, middle), _Conv(middle, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.ops(x)


class _Up(nn.Module):
    def __init__(self, inputs: int, skip: int) -> None:
        super().__init__()
        self.up_conv = nn.ConvTranspose3d(inputs, inputs, 2, stride=2)
        self.ops = nn.Sequential(_Conv(inputs + skip, skip), _Conv(skip, skip))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.ops(torch.cat([self.up_conv(x), skip], 1))


class GenesisUNet3D(nn.Module):
    """The 3-D U-Net of Models Genesis as a segmenter of raw slices: with the encoder ``medkit:identity``.

    Slices (B,D,C,H,W) to logits (B,D,H,W). 19,073,665 parameters for one channel. Volumes go through one by one,
    padded with zeros to multiples of 8 and cropped back; batch norm uses the statistics of that volume in prediction
    too. Behind an encoder of stride s it works on the shallowest map and enlarges its logits s times.

    Parameters
    ----------
    width:
        Channels of the first convolution (published: 32).
    weights:
        null: random; else a safetensors file of the published weights, with their names. The last layer is not used
        and drawn anew.
    """

    task: ClassVar[str] = "segmentation"

    def __init__(
        self,
        channels: Channels,
        strides: Strides,
        width: Annotated[int, Field(gt=0)] = 32,
        weights: Path | None = None,
    ) -> None:
        super().__init__()
        w = width
        self.factor = strides[0]
        # Attributes have the names of the published weights.
        self.down_tr64 = Down(channels[0], w, 2 * w)
        self.down_tr128 = Down(2 * w, 2 * w, 4 * w)
        self.down_tr256 = Down(4 * w, 4 * w, 8 * w)
        self.down_tr512 = Down(8 * w, 8 * w, 16 * w)
        self.up_tr256 = _Up(16 * w, 8 * w)
        self.up_tr128 = _Up(8 * w, 4 * w)
        self.up_tr64 = _Up(4 * w, 2 * w)
        self.out_tr = nn.ModuleDict({"final_conv": nn.Conv3d(2 * w, 1, 1)})
        if weights is not None:
            self._load(Path(weights))

    def _load(self, path: Path) -> None:
        found = {name.removeprefix("module."): tensor for name, tensor in read_safetensors(path).items()}
        own = {name: tensor for name, tensor in self.state_dict().items() if not name.startswith(LAST)}
        wrong = [name for name, tensor in own.items() if name not in found or found[name].shape != tensor.shape]
        if wrong:
            raise InputError(
                f"the file lacks {len(wrong)} tensors of this network, or has other shapes: {', '.join(wrong[:3])}",
                str(path),
                "the published ones have width 32 and one channel",
            )
        self.load_state_dict({name: found[name] for name in own}, strict=False)

    def slices(self, features: list[Tensor]) -> Tensor:
        return features[0]

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        return enlarge(each_volume(self.volume, features, lengths, multiple=8), self.factor)

    def volume(self, x: Tensor) -> Tensor:
        """Logits (N,1,D,H,W) of volumes (N,C,D,H,W) whose sides are multiples of 8."""
        first = self.down_tr64(x)
        second = self.down_tr128(F.max_pool3d(first, 2))
        third = self.down_tr256(F.max_pool3d(second, 2))
        x = self.down_tr512(F.max_pool3d(third, 2))
        x = self.up_tr64(self.up_tr128(self.up_tr256(x, third), second), first)
        return self.out_tr["final_conv"](x)
