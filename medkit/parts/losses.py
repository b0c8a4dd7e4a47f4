"""General losses. Predictions are logits where a probability is meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn


class BCE(nn.Module):
    """Binary cross-entropy of logits, mean over all elements.

    Parameters
    ----------
    positive_weight:
        Factor of positive elements.
    """

    def __init__(self, positive_weight: Annotated[float, Field(gt=0)] = 1.0) -> None:
        super().__init__()
        self.positive_weight = positive_weight

    def forward(self, prediction: Tensor, target: Tensor, **context: Any) -> Tensor:
        weight = None if self.positive_weight == 1 else prediction.new_tensor(self.positive_weight)
        return F.binary_cross_entropy_with_logits(prediction, target.to(prediction.dtype), pos_weight=weight)


class Dice(nn.Module):
    """Soft Dice loss of logits over the whole batch at once (thesis part B; published DiceLoss).

    ``1 - (2 sum(p t) + smooth) / max(sum(p) + sum(t) + smooth, 1e-7)``. A batch without a positive voxel gives 0 and
    no gradient, as published in 2022.

    Parameters
    ----------
    smooth:
        Added to numerator and denominator.
    """

    def __init__(self, smooth: Annotated[float, Field(ge=0)] = 0.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, prediction: Tensor, target: Tensor, **context: Any) -> Tensor:
        # Sums over millions of voxels need more than half precision.
        p = torch.sigmoid(prediction.float() if prediction.dtype.itemsize < 4 else prediction)
        t = target.to(p.dtype)
        return soft_dice(p, t, self.smooth) * (t.sum() > 0)


def soft_dice(p: Tensor, t: Tensor, smooth: float, over: Sequence[int] | None = None) -> Tensor:
    """``1 - (2 sum(p t) + smooth) / max(sum(p) + sum(t) + smooth, 1e-7)``, summed over some dimensions or all."""
    if over is None:
        both, total = (p * t).sum(), p.sum() + t.sum()
    else:
        both, total = (p * t).sum(tuple(over)), p.sum(tuple(over)) + t.sum(tuple(over))
    return 1 - (2 * both + smooth) / (total + smooth).clamp(min=1e-7)


class L1(nn.Module):
    """Mean absolute error."""

    def forward(self, prediction: Tensor, target: Tensor, **context: Any) -> Tensor:
        return F.l1_loss(prediction, target.to(prediction.dtype))


class MSE(nn.Module):
    """Mean square error."""

    def forward(self, prediction: Tensor, target: Tensor, **context: Any) -> Tensor:
        return F.mse_loss(prediction, target.to(prediction.dtype))
