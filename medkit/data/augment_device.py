"""Modules that kornia lacks or does differently from our augmentations, with the same distributions as on the CPU."""

from __future__ import annotations

from typing import Any

import kornia.augmentation as K
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medkit.data.augment_crop import cut_of

BINOMIAL = ((1.0, 2.0, 1.0), (2.0, 4.0, 2.0), (1.0, 2.0, 1.0))
"""Sixteenths of the 3x3 Gaussian in OpenCV and in the published code (a standard deviation of 0.85 pixels)."""


class Noise(K.IntensityAugmentationBase2D):
    """Gaussian noise of one standard deviation per item, drawn anew for every channel."""

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
    """The image mixed with itself sharpened: plus eight times the middle pixel less its neighbours."""

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
    """A 3x3 Gaussian, median or motion kernel, equally likely; motion kernels are albumentations', as on the CPU."""

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
    """(N,C,H,W) images, each correlated with its own of (N,3,3) kernels; padded by reflection without edge pixels."""
    n, c, h, w = images.shape
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect").reshape(1, n * c, h + 2, w + 2)
    weights = kernels.to(images).repeat_interleave(c, 0)[:, None]
    return F.conv2d(padded, weights, groups=n * c).view(n, c, h, w)


def median3(images: Tensor) -> Tensor:
    """The median of each pixel's 3x3 neighbourhood, (N,C,H,W); padded with edge pixels."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    return padded.unfold(-2, 3, 1).unfold(-2, 3, 1).flatten(-2).median(-1).values


class Crop(nn.Module):
    """A random crop of ``scale`` of each image's area, resized to its size or to a square; masks follow."""

    def __init__(self, scale: tuple[float, float], size: int | None = None, p: float = 1.0) -> None:
        super().__init__()
        self.scale, self.size, self.p = scale, size, p

    def forward(self, images: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """(N,C,H,W) images, and their masks (N,C,H,W), to (N,C,h,w), the size of the result."""
        shape = (images.shape[2], images.shape[3])
        result = shape if self.size is None else (self.size, self.size)
        cuts = torch.tensor([self._cut(shape, result) for _ in range(len(images))])
        given = [images] if mask is None else [images, mask]
        found = []
        for tensor in given:
            nearest = tensor is mask
            down = _resampling(cuts[:, 0], cuts[:, 2], shape[0], result[0], nearest).to(tensor)
            across = _resampling(cuts[:, 1], cuts[:, 3], shape[1], result[1], nearest).to(tensor)
            found.append(down[:, None] @ tensor @ across[:, None].transpose(-1, -2))
        return found

    def _cut(self, shape: tuple[int, int], result: tuple[int, int]) -> tuple[int, int, int, int]:
        happens, area, *place = torch.rand(4).tolist()
        if happens >= self.p:
            return (0, 0, *shape)
        return cut_of(shape, result, self.scale[0] + area * (self.scale[1] - self.scale[0]), (place[0], place[1]))


def _resampling(start: Tensor, length: Tensor, full: int, size: int, nearest: bool) -> Tensor:
    """(N,size,full) weights that resample ``length`` (N,) of ``full`` pixels, from ``start`` (N,) on, to ``size``.

    Means over areas when shrinking, else linear between pixel centres, as OpenCV's INTER_AREA and INTER_LINEAR; or the
    ``nearest`` pixel, the later one of two equally near.
    """
    start, length = start[:, None], length[:, None]
    place = torch.arange(size)
    pixel = torch.arange(full) - start[:, :, None]  # (N,1,full): relative to the start of the crop
    if nearest:
        return (pixel == ((2 * place + 1) * length // (2 * size))[:, :, None]).float()
    ratio = (length.double() / size)[:, :, None]
    low = place[:, None] * ratio  # (N,size,1): where each pixel of the result begins
    covered = (torch.minimum(low + ratio, pixel + 1) - torch.maximum(low, pixel)).clamp(min=0)
    middle = (low + ratio / 2 - 0.5).clamp(min=0).minimum(length[:, :, None] - 1.0)
    linear = (1 - (middle - pixel).abs()).clamp(min=0)
    return torch.where(ratio > 1, covered / ratio, linear).float()
