"""Residual networks for volumes, like those for actions in videos and like Med3D's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from medkit.parts.encoder_volumes import Count, Triple, check_volumes, load_published

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Of each layer, by depth."""
Shortcut = Literal["A", "B"]


class _Block(nn.Module):
    """Two 3x3x3 convolutions with batch norm beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = _conv3(inputs, outputs, stride, dilation)
        self.bn1 = nn.BatchNorm3d(outputs)
        self.conv2 = _conv3(outputs, outputs, 1, dilation)
        self.bn2 = nn.BatchNorm3d(outputs)
        self.stride, self.more = stride, outputs - inputs
        self.downsample = None
        if shortcut == "B" and (stride > 1 or self.more):
            self.downsample = nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self._beside(x))

    def _beside(self, x: Tensor) -> Tensor:
        if self.downsample is not None:
            return self.downsample(x)  # type: ignore[no-any-return]
        s = self.stride
        return F.pad(x[:, :, ::s, ::s, ::s], (0, 0, 0, 0, 0, 0, 0, self.more)) if s > 1 or self.more else x


def _conv3(inputs: int, outputs: int, stride: int, dilation: int) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)


class _Net(nn.Module):
    """The network without its classifier, by its published names."""

    def __init__(
        self, depth: int, in_channels: int, width: int, stem_stride: Triple, dilated: bool, shortcut: Shortcut
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, width, 7, stem_stride, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        inputs = width
        for i, blocks in enumerate(BLOCKS[depth]):
            outputs, steps = width << i, (1, 2, 1, 1) if dilated else (1, 2, 2, 2)
            dilation = (1, 1, 2, 4)[i] if dilated else 1
            first = _Block(inputs, outputs, steps[i], dilation, shortcut)
            others = (_Block(outputs, outputs, 1, dilation, shortcut) for _ in range(blocks - 1))
            setattr(self, f"layer{i + 1}", nn.Sequential(first, *others))
            inputs = outputs

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [F.relu(self.bn1(self.conv1(x)))]
        x = F.max_pool3d(maps[0], 3, 2, padding=1)
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
            maps.append(x)
        return maps


class ResNet3d(nn.Module):
    """A ResNet with 3-D convolutions (Hara et al. 2018), or Med3D's (Chen et al. 2019): an encoder of volumes.

    Shapes: (N,C,D,H,W) to five maps of ``width`` times 1, 1, 2, 4 and 8 channels, sizes over strides rounded up: after
    the stem and after each of four layers. A 7x7x7 convolution, a pooling of stride 2, then basic blocks with batch
    norm; all layers but the first have stride 2. Hara et al. keep the depth in the stem, which is the default; Med3D's
    published networks have ``stem_stride: [2, 2, 2]`` and ``dilated: true``, with shortcut A at depths 18 and 34.

    Parameters
    ----------
    depth:
        Layers with weights: 10, 18 or 34.
    in_channels:
        Channels of the volumes.
    width:
        Channels of the first convolution.
    stem_stride:
        Of the first convolution (depth, height, width).
    dilated:
        As Med3D: the last two layers have stride 1, and dilation 2 and 4 in its place.
    shortcut:
        Where size or channels change: ``A``, every second voxel and zeros for new channels; ``B``, a 1x1x1 convolution.
    weights:
        null: drawn at random; else a safetensors file with this network, by the published names (docs/volumes.md).
    prefix:
        What precedes this network's names in the file of ``weights``; null: found, and reported.
    """

    dimensions: ClassVar[int] = 3

    def __init__(
        self,
        depth: Literal[10, 18, 34] = 18,
        in_channels: Count = 1,
        width: Count = 64,
        stem_stride: tuple[Count, Count, Count] = (1, 2, 2),
        dilated: bool = False,
        shortcut: Shortcut = "B",
        weights: Path | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__()
        a, b, c = stem_stride
        factors = (1, 2, 4, 4, 4) if dilated else (1, 2, 4, 8, 16)
        self.channels = (width, *(width << i for i in range(4)))
        self.strides: tuple[Triple, ...] = tuple((a * f, b * f, c * f) for f in factors)
        self.net = _Net(depth, in_channels, width, (a, b, c), dilated, shortcut)
        for layer in self.net.modules():
            if isinstance(layer, nn.Conv3d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if weights is not None:
            load_published(self.net, Path(weights), prefix)

    def forward(self, x: Tensor) -> list[Tensor]:
        check_volumes(x)
        return self.net(x)  # type: ignore[no-any-return]

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        layers = [(f"layer{i}", getattr(self.net, f"layer{i}")) for i in range(1, 5)]
        return [("stem", nn.ModuleList([self.net.conv1, self.net.bn1])), *layers]
