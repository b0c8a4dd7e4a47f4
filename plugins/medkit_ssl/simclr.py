"""SimCLR: tell the other view of an image from the views of all other images."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medkit.api import Batch, Channels
from medkit.parts.across_ranks import gather_rows
from medkit_ssl.pooling import Pool
from medkit_ssl.precision import precise
from medkit_ssl.projector import Projector, Width
from medkit_ssl.spread import Spreading
from medkit_ssl.views import compared


class SimCLR(Spreading):
    """Contrast views of images (Chen et al. 2020, eq. 1): NT-Xent, with negatives from all ranks.

    Shapes: pyramid of the V views of N items, item by item, to rows (NV,D). The loss of a view i with another one j of
    its item is ``-log(exp(s_ij / t) / sum_k exp(s_ik / t))`` over all views k but i, with cosines s; the mean over all
    such pairs. The projector is two linear layers with a ReLU between them. Negatives are the other items of the batch,
    on all ranks: the paper takes 256 to 8192 of them, and 0.1 is its temperature for those; with a few dozen, 0.2 to
    0.5 are less easily satisfied. Neighbouring slices of one patient are negatives too: draw one per case
    (``slices: 1``) if they look alike.

    Parameters
    ----------
    temperature:
        t, what cosines are divided by.
    hidden:
        Width of the projector's hidden layer; null: that of the pooled features, as published.
    width:
        D.
    level:
        Level of the pyramid that is projected, 0 for the shallowest, -1 for the deepest.
    pool:
        How a map becomes a number.
    """

    dimensions: ClassVar[tuple[int, ...]] = (2, 3)

    def __init__(
        self,
        channels: Channels,
        temperature: Annotated[float, Field(gt=0)] = 0.1,
        hidden: Width | None = None,
        width: Width = 128,
        level: int = -1,
        pool: Pool = "mean",
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.projector = Projector(channels, (hidden, width), level, pool, norm=False)

    def view(self, batch: Batch) -> tuple[Tensor, Tensor]:
        views = compared(batch["views"])
        return views.flatten(0, 1), views

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.projector(features)

    @precise
    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        own = F.normalize(output, dim=1)
        every, first = gather_rows(own)
        self.spread(every)
        return {"nt_xent": nt_xent(own, every, first, target.shape[1], self.temperature)}


def nt_xent(own: Tensor, every: Tensor, first: int, views: int, temperature: float) -> Tensor:
    """NT-Xent (:class:`SimCLR`) of rows of length 1, ``own`` (n,D) among ``every`` (m,D), the mean over own rows.

    Rows are ordered item by item, ``views`` each; ``own`` begins at row ``first`` of ``every``.
    """
    similarity = own @ every.T / temperature
    mine = first + torch.arange(len(own), device=own.device)[:, None]
    others = torch.arange(len(every), device=own.device)[None]
    log = F.log_softmax(similarity.masked_fill(mine == others, -torch.inf), 1)
    positive = (mine // views == others // views) & (mine != others)
    return -log.masked_fill(~positive, 0).sum(1).mean() / (views - 1)
