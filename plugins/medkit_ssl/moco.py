"""MoCo v3: the student's view of an image picks out the teacher's view of it among the teacher's views of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medkit.api import Batch, Channels
from medkit.parts.across_ranks import gather_rows
from medkit_ssl.pooling import Pool
from medkit_ssl.precision import precise
from medkit_ssl.projector import Projector, Width, perceptron
from medkit_ssl.spread import Spreading
from medkit_ssl.views import compared, pairs


class MoCo(Spreading):
    """Momentum contrast, version 3 (Chen, Xie & He 2021, Algorithm 1): InfoNCE both ways, negatives from all ranks.

    With queries q of the student (after the predictor) and keys k of the teacher, of length 1, the loss of a pair of
    views is ``2 t * cross_entropy(q_i . k_j / t, j = i)`` over the keys of all items; summed for both orders of two
    views (for V views it is twice the mean over ordered pairs). There is no queue; batch norm is over each rank's own
    rows. The paper has a temperature of 0.2 for transformers and 1.0 for ResNet-50, and batches of 4096.

    Parameters
    ----------
    temperature:
        t, what cosines are divided by.
    hidden:
        Width of the hidden layers of projector (three layers) and predictor (two).
    width:
        Width of the rows that are compared.
    level:
        Level of the pyramid that is projected, 0 for the shallowest, -1 for the deepest.
    pool:
        How a map becomes a number.
    """

    momentum = 0.99

    def __init__(
        self,
        channels: Channels,
        temperature: Annotated[float, Field(gt=0)] = 0.2,
        hidden: Width = 4096,
        width: Width = 256,
        level: int = -1,
        pool: Pool = "mean",
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.projector = Projector(channels, (hidden, hidden, width), level, pool, last_norm=True)
        self.predictor = perceptron((width, hidden, width), last_norm=True)

    def view(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        views = compared(batch["views"])
        return [views], [views]

    @precise
    def loss(self, student: Sequence[Tensor], teacher: Sequence[Tensor], progress: float) -> dict[str, Tensor]:
        queries, keys = (F.normalize(rows[0], dim=2) for rows in (student, teacher))
        self.spread(queries)
        every, first = gather_rows(keys.flatten(1))
        every = every.unflatten(1, keys.shape[1:])
        terms = []
        right = first + torch.arange(len(queries), device=queries.device)
        for query, key in pairs(queries, every):
            logits = query @ key.T / self.temperature
            terms.append(2 * self.temperature * F.cross_entropy(logits, right))
        return {"info_nce": 2 * torch.stack(terms).mean()}
