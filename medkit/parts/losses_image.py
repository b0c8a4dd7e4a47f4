"""Losses of image restoration."""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn


class Charbonnier(nn.Module):
    """Mean of ``sqrt(d^2 + eps^2)`` (Charbonnier et al. 1994).

    Parameters
    ----------
    eps:
        Where the loss turns from quadratic to linear.
    """

    def __init__(self, eps: Annotated[float, Field(gt=0)] = 1e-3) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, prediction: Tensor, target: Tensor, **context: Any) -> Tensor:
        return ((prediction - target).square() + self.eps**2).sqrt().mean()


class LaplacianEdge(nn.Module):
    """Charbonnier distance between the Laplacian-pyramid edges of two images (MPRNet; (N,1,H,W), any size).

    ``L(I) = I - blur(up(4 blur(I)[::2, ::2]))`` with a 5x5 binomial blur, edges replicated.

    Parameters
    ----------
    eps:
        Of the Charbonnier distance.
    """

    kernel: Tensor

    def __init__(self, eps: Annotated[float, Field(gt=0)] = 1e-3) -> None:
        super().__init__()
        self.charbonnier = Charbonnier(eps)
        taps = torch.tensor([0.05, 0.25, 0.4, 0.25, 0.05])
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None], persistent=False)

    def blur(self, image: Tensor) -> Tensor:
        channels = image.shape[1]
        kernel = self.kernel.to(image.dtype).expand(channels, 1, 5, 5)
        return F.conv2d(F.pad(image, (2, 2, 2, 2), mode="replicate"), kernel, groups=channels)

    def laplacian(self, image: Tensor) -> Tensor:
        """The image minus its coarse half."""
        blurred = self.blur(image)
        coarse = torch.zeros_like(image)
        coarse[..., ::2, ::2] = blurred[..., ::2, ::2] * 4
        return image - self.blur(coarse)

    def forward(self, prediction: Tensor, target: Tensor, **context: Any) -> Tensor:
        return self.charbonnier(self.laplacian(prediction), self.laplacian(target))
