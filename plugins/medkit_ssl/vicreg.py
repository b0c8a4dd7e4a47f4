"""VICReg: views agree, while each feature varies and no two are redundant."""

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

GAMMA, EPSILON = 1.0, 1e-4

Weight = Annotated[float, Field(ge=0)]


class VICReg(Spreading):
    """Variance, invariance and covariance of two views (Bardes, Ponce & LeCun 2022, section 4.1 and Algorithm 1).

    Shapes: pyramid of the two views of N items, item by item, to rows (2N,D). With rows Z and Z' of the first and the
    second views, ``invariance`` is the mean of (Z - Z')^2 over all numbers, as in Algorithm 1; ``variance`` is the mean
    over features of ``max(0, 1 - sqrt(var + 1e-4))``, and ``covariance`` the sum of the squared off-diagonal
    covariances over D, each for Z and for Z' and added. Variances and covariances (over n - 1) are over the rows of
    all ranks. Terms come with their weights. There are no negatives, and no teacher. The paper's expander has three
    layers of 8192 for ImageNet, 134 million weights besides the first one; it is 2048 wide here.

    Parameters
    ----------
    invariance:
        Weight of the distance between views.
    variance:
        Weight of each feature's shortfall from a standard deviation of 1.
    covariance:
        Weight of what features have in common.
    width:
        D, the width of all three layers of the expander.
    level:
        Level of the pyramid that is projected, 0 for the shallowest, -1 for the deepest.
    pool:
        How a map becomes a number.
    """

    dimensions: ClassVar[tuple[int, ...]] = (2, 3)

    def __init__(
        self,
        channels: Channels,
        invariance: Weight = 25.0,
        variance: Weight = 25.0,
        covariance: Weight = 1.0,
        width: Width = 2048,
        level: int = -1,
        pool: Pool = "mean",
    ) -> None:
        super().__init__()
        self.weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
        self.projector = Projector(channels, (width, width, width), level, pool)

    def view(self, batch: Batch) -> tuple[Tensor, Tensor]:
        views = compared(batch["views"], most=2)
        return views.flatten(0, 1), views

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.projector(features)

    @precise
    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        every, _ = gather_rows(output)
        self.spread(every)
        one, other = every[0::2], every[1::2]
        variance, covariance = (a + b for a, b in zip(spread(one), spread(other), strict=True))
        terms = {"invariance": F.mse_loss(one, other), "variance": variance, "covariance": covariance}
        return {name: self.weights[name] * term for name, term in terms.items()}


def spread(rows: Tensor) -> tuple[Tensor, Tensor]:
    """How far (n,D) rows are from varying and being uncorrelated, as :class:`VICReg` says; nothing for a single row."""
    count, width = rows.shape
    if count < 2:
        return rows.sum() * 0, rows.sum() * 0
    rows = rows - rows.mean(0)
    covariance = rows.T @ rows / (count - 1)
    deviation = (covariance.diagonal() + EPSILON).sqrt()
    shared = (covariance.square().sum() - covariance.diagonal().square().sum()) / width
    return torch.relu(GAMMA - deviation).mean(), shared
