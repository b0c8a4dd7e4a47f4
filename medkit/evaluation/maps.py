"""Where a network looks: channel-mean activation and Grad-CAM."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor, nn


def channel_mean(features: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Mean over channels, sigmoid, cubic resize: (N,C,h,w) to (N,H,W) (thesis, Fig. 11)."""
    maps = torch.sigmoid(features.float().mean(1)).cpu().numpy()
    return np.stack([cv2.resize(m, (size[1], size[0]), interpolation=cv2.INTER_CUBIC) for m in maps])


@torch.inference_mode()
def activation(encoder: nn.Module, images: Tensor) -> np.ndarray:
    """Channel-mean activation of the encoder's deepest map for (N,C,H,W) images: (N,H,W)."""
    return channel_mean(encoder(images)[-1], (images.shape[-2], images.shape[-1]))


def grad_cam(encoder: nn.Module, head: Callable[[list[Tensor]], Tensor], images: Tensor, level: int = -1) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017) of ``head(features)`` summed over its outputs: (N,H,W) in [0,1], not inverted.

    ``relu(sum_c mean(dY/dA_c) A_c)``, bilinear to the image's size, stretched to [0,1] per image.
    """
    features = [f.detach() for f in encoder(images)]
    features[level].requires_grad_()
    with torch.enable_grad():
        score = head(features).sum()
        (gradient,) = torch.autograd.grad(score, features[level])
    maps = torch.relu((gradient.mean((2, 3), keepdim=True) * features[level]).sum(1, keepdim=True))
    maps = nn.functional.interpolate(maps, images.shape[-2:], mode="bilinear", align_corners=False)[:, 0].detach()
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return ((maps - low) / (high - low).clamp(min=1e-12)).cpu().numpy()
