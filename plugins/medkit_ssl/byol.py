"""BYOL: the student predicts what its teacher makes of another view."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medkit.api import Batch, Channels
from medkit_ssl.pooling import Pool
from medkit_ssl.precision import precise
from medkit_ssl.projector import Projector, Width, perceptron
from medkit_ssl.spread import Spreading
from medkit_ssl.views import compared, pairs


class BYOL(Spreading):
    """Bootstrap your own latent (Grill et al. 2020, eq. 2): ``2 - 2 cos`` of prediction and teacher, no negatives.

    Summed for both orders of two views (for V views it is twice the mean over ordered pairs), so between 0 and 8. What
    keeps it from a constant answer are predictor, batch norm (here over each rank's rows) and the slow teacher;
    ``train/NAME_spread`` shows whether they do. The paper starts the teacher's momentum at 0.996 for 300 epochs of
    ImageNet.

    Parameters
    ----------
    hidden:
        Width of the hidden layer of projector and predictor.
    width:
        Width of the rows that are compared.
    level:
        Level of the pyramid that is projected, 0 for the shallowest, -1 for the deepest.
    pool:
        How a map becomes a number.
    """

    momentum = 0.996

    def __init__(
        self, channels: Channels, hidden: Width = 4096, width: Width = 256, level: int = -1, pool: Pool = "mean"
    ) -> None:
        super().__init__()
        self.projector = Projector(channels, (hidden, width), level, pool)
        self.predictor = perceptron((width, hidden, width))

    def view(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        views = compared(batch["views"])
        return [views], [views]

    @precise
    def loss(self, student: Sequence[Tensor], teacher: Sequence[Tensor], progress: float) -> dict[str, Tensor]:
        predicted, wanted = (F.normalize(rows[0], dim=2) for rows in (student, teacher))
        self.spread(predicted)
        distances = [(2 - 2 * (a * b).sum(1)).mean() for a, b in pairs(predicted, wanted)]
        return {"distance": 2 * torch.stack(distances).mean()}
