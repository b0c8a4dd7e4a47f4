"""DU-GAN (Huang et al. 2022): two U-Nets judge images and their gradients, as a whole and pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from medkit.errors import InputError
from medkit_baselines.sobel import SobelMagnitude

SLOPE = 0.2
Count = Annotated[int, Field(gt=0)]
Scores = dict[str, Tensor]


class UNetDiscriminator(nn.Module):
    """A U-Net that scores an image and each of its pixels (57,213,839 parameters with the defaults).

    Shapes: (N,1,H,W), H and W multiples of ``2 ** levels``, to ``cls`` (N,1) and ``seg`` (N,1,H,W), raw scores.
    Convolutions have a spectral norm unless they make one channel or read four or fewer, as published.

    Parameters
    ----------
    base:
        Channels of the first level; each further one has twice as many, up to ``most``.
    levels:
        How often the image is halved.
    most:
        Largest number of channels; null: 8 times the base.
    """

    def __init__(self, base: Count = 64, levels: Count = 6, most: Count | None = None) -> None:
        super().__init__()
        widths = [min(base * 2**i, most or 8 * base) for i in range(levels)]
        deepest = widths[-1]
        inputs = [1, *widths]
        self.downs = nn.ModuleList(_Down(inputs[i], w, halve=True) for i, w in enumerate(widths))
        self.deepest = _Down(deepest, deepest, halve=False)
        self.bottleneck = _pair(deepest, deepest)
        self.cls = nn.Linear(deepest, 1)
        outputs = [*reversed(widths[:-1]), 1]
        self.ups = nn.ModuleList(_Up(w, out) for w, out in zip(reversed(widths), outputs, strict=True))
        self.out = nn.Conv2d(1, 1, 1)
        for layer in list(self.modules()):
            if isinstance(layer, nn.Conv2d) and layer.out_channels != 1 and layer.in_channels > 4:
                spectral_norm(layer)

    def forward(self, x: Tensor) -> Scores:
        step = 2 ** len(self.downs)
        if x.shape[-1] % step or x.shape[-2] % step:
            raise InputError(
                f"this U-Net halves images {len(self.downs)} times: {tuple(x.shape[-2:])} is not a multiple of {step}",
                hint="choose such a 'patch_size', or fewer 'levels'",
            )
        skips = []
        for down in self.downs:
            x, skip = down(x)
            skips.append(skip)
        x, _ = self.deepest(x)
        x = x + self.bottleneck(x)
        cls = self.cls(F.leaky_relu(x, SLOPE).mean((2, 3)))
        for up in self.ups:
            x = up(x, skips.pop())
        return {"cls": cls, "seg": self.out(x)}

    def shared_parameters(self) -> Iterable[nn.Parameter]:
        """Encoder and bottleneck, which both scores train."""
        for part in (self.downs, self.deepest, self.bottleneck):
            yield from part.parameters()


class DualDomain(nn.Module):
    """The discriminator of DU-GAN: one U-Net for images, one for the lengths of their gradients (Sobel).

    Shapes: (N,1,H,W) to ``cls`` and ``seg`` of the image and ``gradient_cls`` and ``gradient_seg`` of its gradient.

    Parameters
    ----------
    base:
        Channels of the first level of both.
    levels:
        How often the image is halved; its sides are multiples of ``2 ** levels``.
    most:
        Largest number of channels; null: 8 times the base.
    """

    def __init__(self, base: Count = 64, levels: Count = 6, most: Count | None = None) -> None:
        super().__init__()
        self.image = UNetDiscriminator(base, levels, most)
        self.gradient = UNetDiscriminator(base, levels, most)
        self.magnitude = SobelMagnitude()

    def forward(self, x: Tensor) -> Scores:
        scores = {}
        for prefix, view, judge in domains(self):
            scores |= {prefix + task: score for task, score in judge(view(x)).items()}
        return scores

    def shared_parameters(self) -> Iterable[nn.Parameter]:
        """The shared parameters of both U-Nets."""
        yield from self.image.shared_parameters()
        yield from self.gradient.shared_parameters()


Domain = tuple[str, Callable[[Tensor], Tensor], Callable[[Tensor], Scores]]


def domains(discriminator: Callable[[Tensor], Scores]) -> list[Domain]:
    """Domains of a discriminator: prefix of the scores, transform of the image, and the network that scores it."""
    if isinstance(discriminator, DualDomain):
        return [
            ("", torch.nn.Identity(), discriminator.image),
            ("gradient_", discriminator.magnitude, discriminator.gradient),
        ]
    return [("", torch.nn.Identity(), discriminator)]


class _Down(nn.Module):
    """Two convolutions (the skip), halved in size unless deepest, plus a pointwise shortcut."""

    def __init__(self, inputs: int, outputs: int, halve: bool) -> None:
        super().__init__()
        self.pair = _pair(inputs, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=2 if halve else 1)
        self.down = nn.Conv2d(outputs, outputs, 4, 2, 1) if halve else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.pair(x)
        return self.down(skip) + self.shortcut(x), skip


class _Up(nn.Module):
    """Doubled in size, concatenated with the skip, two convolutions, plus a pointwise shortcut of the enlarged map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pair = _pair(2 * inputs, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.pair(torch.cat([x, skip], dim=1)) + self.shortcut(x)


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    first, second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
    return nn.Sequential(first, nn.LeakyReLU(SLOPE), second, nn.LeakyReLU(SLOPE))
