"""The tie between the CLS and the SEG head."""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.api import MaskClasses
from medkit.parts.mask_losses import any_probability


class Consistency(nn.Module):
    """Mean square distance between the slice probability and the pooled segmentation probability.

    ``mean((sigmoid(cls) - avg(maxpool(sigmoid(seg))))^2)``; (N,) or (N,1) against (N,1,H,W) logits. Gradients flow to
    both heads. The pooled value is a mean over tiles, so even a perfect small lesion gives a small one and pulls the
    classifier down: the weight is 0.5 in the published code for a reason. Source: thesis part B, 2.2.1. The published
    average covers 16x16 tiles, which is the whole of a 256x256 slice; here it is global, so any size works. For masks
    with classes it is the probability of any.

    Parameters
    ----------
    tile:
        Side of the max-pooled tiles.
    """

    def __init__(self, tile: Annotated[int, Field(gt=0)] = 16, classes: MaskClasses = None) -> None:
        super().__init__()
        self.tile, self.classes = tile, classes

    def forward(self, first: Tensor, second: Tensor, **context: Any) -> Tensor:
        classes, maps = (first, second) if first.dim() < 4 else (second, first)
        tile = min(self.tile, maps.shape[-2], maps.shape[-1])
        pooled = F.max_pool2d(any_probability(maps, self.classes), tile).mean((1, 2, 3))
        return F.mse_loss(pooled, torch.sigmoid(classes).reshape(-1))
