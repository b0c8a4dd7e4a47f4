"""The residual encoder of nnU-Net, for volumes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.parts.encoder_volumes import Count, Triple, check_volumes, load_published, triples

SLOPE = 0.01
"""Of leaky ReLU below 0."""


class ConvNorm(nn.Module):
    """Convolution, instance norm and, if ``active``, leaky ReLU: (N,C,D,H,W), sizes over strides rounded up."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Triple, stride: Triple = (1, 1, 1), bias: bool = True, *, active: bool
    ) -> None:
        super().__init__()
        depth, height, width = kernel
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, (depth // 2, height // 2, width // 2), bias=bias)
        self.norm = nn.InstanceNorm3d(outputs, eps=1e-5, affine=True)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.leaky_relu(x, SLOPE) if self.active else x


class _Block(nn.Module):
    """Two convolutions beside a skip, which is averaged for a stride and projected for another number of channels."""

    def __init__(self, inputs: int, outputs: int, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs, kernel, stride, active=True)
        self.conv2 = ConvNorm(outputs, outputs, kernel, active=False)
        skip: list[nn.Module] = []
        if stride != (1, 1, 1):
            skip.append(nn.AvgPool3d(stride, stride, ceil_mode=True))
        if inputs != outputs:
            skip.append(ConvNorm(inputs, outputs, (1, 1, 1), bias=False, active=False))
        self.skip = nn.Sequential(*skip)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv2(self.conv1(x)) + self.skip(x), SLOPE)


class _Stage(nn.Module):
    def __init__(self, inputs: int, outputs: int, blocks: int, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        first = _Block(inputs, outputs, kernel, stride)
        self.blocks = nn.Sequential(first, *(_Block(outputs, outputs, kernel, (1, 1, 1)) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)  # type: ignore[no-any-return]


class _Net(nn.Module):
    """Stem and stages, by their published names."""

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        kernels: Sequence[Triple],
        strides: Sequence[Triple],
    ) -> None:
        super().__init__()
        self.stem = nn.ModuleDict({"convs": nn.Sequential(ConvNorm(in_channels, widths[0], kernels[0], active=True))})
        sizes = [(widths[0], widths[0]), *pairwise(widths)]
        self.stages = nn.Sequential()
        for (inputs, outputs), number, kernel, stride in zip(sizes, blocks, kernels, strides, strict=True):
            self.stages.append(_Stage(inputs, outputs, number, kernel, stride))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem["convs"](x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class ResidualEncoder(nn.Module):
    """The residual encoder of nnU-Net (ResEnc; Isensee et al. 2024, "nnU-Net Revisited"): an encoder of volumes.

    Shapes: (N,C,D,H,W) to a list of (N,widths[i],D/d,H/h,W/w), sizes rounded up, where (d,h,w) is the product of the
    strides up to stage i. A stem convolution, then stages of residual blocks: two convolutions, each with an instance
    norm, and leaky ReLU with slope 0.01. The first block of a stage has its stride; its skip is an average over that,
    and a 1x1x1 projection where the number of channels changes (He et al. 2019, ResNet-D). Defaults are those of
    ResEnc-L, as in OpenMind's pretrained networks (Wald et al. 2025). Weights are initialised as He's normal ones, the
    last norm of each block at 0, as in nnU-Net.

    Parameters
    ----------
    in_channels:
        Channels of the volumes.
    widths:
        Channels of each stage.
    blocks:
        Residual blocks of each stage.
    kernels:
        Kernel of each stage (depth, height, width), odd, as in nnU-Net's plans; a single number is for all.
    strides:
        Stride of each stage (depth, height, width), as in nnU-Net's plans; null: 1, then 2 in every direction.
        Slices that are far apart need 1 in depth, and a kernel of 1, until voxels are about as wide as deep.
    weights:
        null: drawn at random; else a safetensors file with this encoder, by the published names (docs/volumes.md).
    prefix:
        What precedes this network's names in the file of ``weights``; null: found, and reported.
    """

    dimensions: ClassVar[int] = 3

    def __init__(
        self,
        in_channels: Count = 1,
        widths: tuple[Count, ...] = (32, 64, 128, 256, 320, 320),
        blocks: tuple[Count, ...] = (1, 3, 4, 6, 6, 6),
        kernels: tuple[tuple[Count, Count, Count], ...] | Count = 3,
        strides: tuple[tuple[Count, Count, Count], ...] | None = None,
        weights: Path | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__()
        if not widths or len(blocks) != len(widths):
            raise InputError(f"{len(widths)} widths and {len(blocks)} numbers of blocks: a stage has one of each")
        shapes = triples(kernels, len(widths), "kernels")
        steps = triples(strides or ((1, 1, 1), *[(2, 2, 2)] * (len(widths) - 1)), len(widths), "strides")
        even = next((kernel for kernel in shapes if any(side % 2 == 0 for side in kernel)), None)
        if even is not None:
            raise InputError(f"kernels have odd sides, not {list(even)}")
        self.channels = tuple(widths)
        self.strides: tuple[Triple, ...] = tuple(
            accumulate(steps, lambda a, b: (a[0] * b[0], a[1] * b[1], a[2] * b[2]))
        )
        self.net = _Net(in_channels, widths, blocks, shapes, steps)
        initialise(self.net)
        for block in self.net.modules():
            if isinstance(block, _Block):
                nn.init.zeros_(block.conv2.norm.weight)
                nn.init.zeros_(block.conv2.norm.bias)
        if weights is not None:
            load_published(self.net, Path(weights), prefix)

    def forward(self, x: Tensor) -> list[Tensor]:
        check_volumes(x)
        deepest = [-(-side // stride) for side, stride in zip(x.shape[2:], self.strides[-1], strict=True)]
        if deepest == [1, 1, 1]:
            sizes = " x ".join(map(str, x.shape[2:]))
            what = f"for volumes of {sizes} the deepest map would be one voxel, which has no deviation to divide by"
            raise InputError(what, hint="take larger patches, or fewer stages or smaller strides")
        return self.net(x)  # type: ignore[no-any-return]

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        return [("stem", self.net.stem), *((f"stages.{i}", stage) for i, stage in enumerate(self.net.stages))]


def initialise(module: nn.Module) -> None:
    """He's normal weights for leaky ReLU and zero biases, for convolutions and transposed ones."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(layer.weight, a=SLOPE)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
