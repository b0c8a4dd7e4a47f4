"""Gradients of images by Sobel filters, as a loss and for discriminators."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn


class SobelMagnitude(nn.Module):
    """Length of an image's gradient: ``sqrt(gx^2 + gy^2 + eps)`` (MAP-NN, DU-GAN).

    Shapes: (N,1,H,W) to (N,1,H,W), any H and W, zeros around the image. The kernels are Sobel's divided by 4.

    Parameters
    ----------
    eps:
        Keeps the root's slope finite where the image is flat.
    """

    kernels: Tensor

    def __init__(self, eps: Annotated[float, Field(gt=0)] = 1e-4) -> None:
        super().__init__()
        self.eps = eps
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
        self.register_buffer("kernels", torch.stack([across, across.t()])[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # Squared differences of neighbours exceed half precision.
        with torch.autocast(x.device.type, enabled=False):
            x = x.float() if x.dtype.itemsize < 4 else x
            return (F.conv2d(x, self.kernels.to(x.dtype), padding=1).square().sum(1, keepdim=True) + self.eps).sqrt()


class SobelLoss(nn.Module):
    """Distance between the lengths of two images' gradients.

    Parameters
    ----------
    norm:
        ``l2``: mean square (MAP-NN); ``l1``: mean absolute (DU-GAN).
    eps:
        Added under the root of the length.
    """

    def __init__(self, norm: Literal["l1", "l2"] = "l2", eps: Annotated[float, Field(gt=0)] = 1e-4) -> None:
        super().__init__()
        self.norm, self.magnitude = norm, SobelMagnitude(eps)

    def forward(self, prediction: Tensor, target: Tensor, **context: Any) -> Tensor:
        distance = F.mse_loss if self.norm == "l2" else F.l1_loss
        return distance(self.magnitude(prediction), self.magnitude(target))
