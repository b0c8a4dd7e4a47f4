"""What kornia does not do as our augmentations say it: modules of its kind, distributed as the forms for the CPU."""

from __future__ import annotations

from typing import Any

import kornia.augmentation as K
import torch
import torch.nn.functional as F
from torch import Tensor

BINOMIAL = ((1.0, 2.0, 1.0), (2.0, 4.0, 2.0), (1.0, 2.0, 1.0))
"""Sixteenths of the 3x3 Gaussian of OpenCV and of the published code (a standard deviation of 0.85 pixels)."""


class Noise(K.IntensityAugmentationBase2D):
    """Gaussian noise of one standard deviation an item, drawn anew for every channel."""

    def __init__(self, low: float, high: float, p: float) -> None:
        super().__init__(p=p)
        self.low, self.high = low, high

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        return {"deviation": torch.empty(batch_shape[0]).uniform_(self.low, self.high)}

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        deviation = params["deviation"].to(input).view(-1, 1, 1, 1)
        return input + deviation * torch.randn_like(input)


class Sharpen(K.IntensityAugmentationBase2D):
    """The image mixed with its sharpened self: eight times the middle pixel less its neighbours, added to it."""

    def __init__(self, low: float, high: float, p: float) -> None:
        super().__init__(p=p)
        self.low, self.high = low, high

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        return {"share": torch.empty(batch_shape[0]).uniform_(self.low, self.high)}

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        kernel = torch.full((3, 3), -1.0)
        kernel[1, 1] = 8.0
        kernels = params["share"].cpu().view(-1, 1, 1) * kernel
        kernels[:, 1, 1] += 1
        return filtered(input, kernels)


class Blur(K.IntensityAugmentationBase2D):
    """A 3x3 Gaussian, median or motion kernel, drawn evenly; motion kernels are albumentations', as on the CPU."""

    def __init__(self, p: float) -> None:
        import albumentations as A

        super().__init__(p=p)
        self.motion = A.MotionBlur((3, 3), p=1)

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        kernels = torch.tensor(BINOMIAL).div(16).repeat(batch_shape[0], 1, 1)
        kinds = torch.randint(3, (batch_shape[0],))
        for item in (kinds == 2).nonzero().flatten().tolist():
            self.motion.set_random_seed(int(torch.randint(2**31, ())))
            kernels[item] = torch.from_numpy(self.motion.get_params()["kernel"])
        return {"kernels": kernels, "median": kinds == 1}

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        blurred = filtered(input, params["kernels"])
        median = params["median"].to(input.device)
        if median.any():
            blurred[median] = median3(input[median])
        return blurred


def filtered(images: Tensor, kernels: Tensor) -> Tensor:
    """(N,C,H,W) images, each correlated with its own of (N,3,3) kernels; edges are reflected without repeating them."""
    n, c, h, w = images.shape
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect").reshape(1, n * c, h + 2, w + 2)
    weights = kernels.to(images).repeat_interleave(c, 0)[:, None]
    return F.conv2d(padded, weights, groups=n * c).view(n, c, h, w)


def median3(images: Tensor) -> Tensor:
    """The median of each pixel's 3x3 neighbourhood; edges are repeated."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    return padded.unfold(-2, 3, 1).unfold(-2, 3, 1).flatten(-2).median(-1).values
