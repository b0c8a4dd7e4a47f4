"""How far apart embeddings are: this reveals a collapse, which no loss of joint embeddings shows by itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Spread(nn.Module):
    """The standard deviation of rows of length 1, the mean over their D features times sqrt(D), for the last batch.

    About 1 if rows point in all directions, 0 if all are the same (Chen & He 2021, section 4.1).
    """

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(()))

    @torch.no_grad()
    def forward(self, rows: Tensor) -> None:
        """Record that of (...,D) rows, in training."""
        if self.training:
            unit = F.normalize(rows.flatten(0, -2), dim=1)
            self.value.copy_(unit.std(0, correction=0).mean() * unit.shape[1] ** 0.5)


class Spreading(nn.Module):
    """Mixed into heads that report their spread: an epoch's number ``train/NAME_spread``."""

    def __init__(self) -> None:
        super().__init__()
        self.spread = Spread()

    def epoch_numbers(self) -> dict[str, float]:
        return {"spread": float(self.spread.value)}
