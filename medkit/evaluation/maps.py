"""Where a network looks: channel-mean activation, Grad-CAM, and what each place adds to a value or to a volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor, nn

Score = Callable[[list[Tensor]], Tensor]
"""From an encoder's pyramid to what should be explained; several numbers are summed."""


def channel_mean(features: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Mean over channels, sigmoid, cubic resize: (N,C,h,w) to (N,H,W) (thesis, Fig. 11)."""
    maps = torch.sigmoid(features.float().mean(1)).cpu().numpy()
    return np.stack([cv2.resize(m, (size[1], size[0]), interpolation=cv2.INTER_CUBIC) for m in maps])


@torch.inference_mode()
def activation(encoder: nn.Module, images: Tensor) -> np.ndarray:
    """Channel-mean activation of the encoder's deepest map for (N,C,H,W) images: (N,H,W)."""
    return channel_mean(encoder(images)[-1], (images.shape[-2], images.shape[-1]))


def contributions(features: Sequence[Tensor], score: Score, level: int = -1) -> Tensor:
    """What each place of a map adds to a score, to first order: (N,1,h,w), of volumes (N,1,d,h,w), of either sign.

    ``sum_c mean(dY/dA_c) A_c``, the gradient averaged over each image's map: Grad-CAM (Selvaraju et al. 2017, eq. 1 and
    2) before its rectifier.
    """
    maps = [f.detach() for f in features]
    maps[level].requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(score(maps).sum(), maps[level])
    space = tuple(range(2, gradient.dim()))
    return (gradient.mean(space, keepdim=True) * maps[level]).sum(1, keepdim=True).detach()


def enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    """(N,1,h,w) to (N,H,W), bilinear."""
    return nn.functional.interpolate(maps, tuple(size[-2:]), mode="bilinear", align_corners=False)[:, 0]


def stretched(maps: Tensor) -> np.ndarray:
    """(N,H,W), each stretched from its smallest and largest value to [0,1]; one that is constant becomes 0."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return ((maps - low) / (high - low).clamp(min=1e-12)).cpu().numpy()


def grad_cam(encoder: nn.Module, head: Score, images: Tensor, level: int = -1) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017) of ``head(features)`` summed over its outputs: (N,H,W) in [0,1], not inverted.

    ``relu(sum_c mean(dY/dA_c) A_c)``, bilinear to the image's size, stretched to [0,1] per image.
    """
    with torch.no_grad():
        features = encoder(images)
    return stretched(enlarged(torch.relu(contributions(features, head, level)), images.shape))
