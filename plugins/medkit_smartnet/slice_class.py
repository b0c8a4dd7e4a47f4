"""The CLS head: one logit per slice."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.api import Batch, Channels
from medkit.parts.convblocks import initialise_head


class SliceClass(nn.Module):
    """Slice classification (CLS): average pool, dropout, one linear layer; binary cross-entropy.

    Shapes: pyramid to (N,). Source: thesis part B, 2.2.1; published code of 2022.

    Parameters
    ----------
    dropout:
        Before the linear layer.
    """

    binary_label = True

    def __init__(self, channels: Channels, dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(channels[-1], 1)
        initialise_head(self.linear)

    def view(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return batch["image"], batch["label"]

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.linear(self.dropout(features[-1].mean((2, 3))))[:, 0]

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"bce": F.binary_cross_entropy_with_logits(output, target.to(output.dtype))}

    def predict(self, output: Tensor) -> dict[str, Tensor]:
        return {"probability": torch.sigmoid(output.float())}
