"""Wasserstein losses with gradient penalty (Gulrajani et al. 2017), of WGAN-VGG and MAP-NN. Scores are unbounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

Scores = dict[str, Tensor]


class WassersteinCritic(nn.Module):
    """Loss of the critic: mean score of generated images minus that of real ones, plus a gradient penalty.

    The penalty is the mean of ``(|dD/dm| - 1)^2`` over images m mixed from a real and a generated one, in proportions
    drawn uniformly for every pair from torch's generator.

    Parameters
    ----------
    penalty:
        Weight of the gradient penalty; 0 leaves it out.
    """

    def __init__(self, penalty: Annotated[float, Field(ge=0)] = 10.0) -> None:
        super().__init__()
        self.penalty = penalty

    def forward(
        self,
        real: Scores,
        fake: Scores,
        *,
        target: Tensor,
        output: Tensor,
        discriminator: Callable[[Tensor], Scores],
        **context: Any,
    ) -> Tensor:
        loss = fake["cls"].mean() - real["cls"].mean()
        if not self.penalty:
            return loss
        # Drawn from the generator that the engine has seeded, so that every device mixes alike.
        share = torch.rand(len(target), 1, 1, 1).to(target)
        mixed = (share * target + (1 - share) * output).detach().requires_grad_()
        # Compiled code cannot be differentiated twice.
        with torch.compiler.set_stance("force_eager"):
            scores = discriminator(mixed)["cls"]
        (slope,) = torch.autograd.grad(scores.sum(), mixed, create_graph=True)
        length = torch.linalg.vector_norm(slope.flatten(1).float(), dim=1)
        return loss + self.penalty * (length - 1).square().mean()


class WassersteinGenerator(nn.Module):
    """Loss of the generator: minus the critic's mean score of its images."""

    def forward(self, prediction: Tensor, target: Tensor, *, scores: Scores, **context: Any) -> Tensor:
        return -scores["cls"].mean()
