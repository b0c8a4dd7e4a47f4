"""Losses of DU-GAN's two turns. Scores are raw; targets are 1 for real and 0 for fake (least squares)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit_baselines.dugan import Scores, domains

Weight = Annotated[float, Field(ge=0)]


def lsgan(scores: Tensor, target: Tensor | float) -> Tensor:
    """Mean of (D - t)^2 (Mao et al., Least squares GAN)."""
    return (scores - target).square().mean()


def judged(scores: Scores) -> Iterator[tuple[str, Tensor]]:
    """The scores of real against fake, for whole images and for pixels, in every domain."""
    for name, score in scores.items():
        if name.endswith(("cls", "seg")):
            yield name, score


class RealLowFake(nn.Module):
    """Adversarial loss of the discriminator: real to 1, generated *and low-dose* images to 0, whole and by pixel.

    The low-dose image needs one more pass through the discriminator.
    """

    def forward(
        self,
        real: Scores,
        fake: Scores,
        *,
        input: Tensor,
        discriminator: Callable[[Tensor], Scores],
        **context: Any,
    ) -> Tensor:
        low = discriminator(input)
        terms = [lsgan(r, 1.0) + lsgan(fake[name], 0.0) + lsgan(low[name], 0.0) for name, r in judged(real)]
        return torch.stack(terms).sum()


class CutMix(nn.Module):
    """CutMix regularisation of a discriminator that scores pixels (Schönfeld et al. 2020; DU-GAN).

    With probability ``p`` a box of the generated images is put into the real ones. The mixture as a whole counts as
    fake, each pixel as what it was cut from, and scores of the mixture should agree with the mixture of scores (mean
    square). With a discriminator of two domains, each mixes its own input: gradients are cut, not computed from cut
    images. The box, one per batch, has a uniformly drawn area and a centre anywhere (Yun et al. 2019), both from
    torch's generator.

    Parameters
    ----------
    p:
        Probability of mixing a batch.
    consistency:
        Weight of the agreement.
    """

    def __init__(self, p: Annotated[float, Field(ge=0, le=1)] = 0.5, consistency: Weight = 1.0) -> None:
        super().__init__()
        self.p, self.consistency = p, consistency

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
        if float(torch.rand(())) >= self.p:
            # Zero with a graph: every task of a turn must have a graph.
            return 0 * real["seg"].sum()
        kept = box(target.shape[-2], target.shape[-1]).to(target)
        terms = []
        for prefix, view, judge in domains(discriminator):
            scores = judge(torch.lerp(view(output), view(target), kept))
            wanted = torch.lerp(fake[f"{prefix}seg"], real[f"{prefix}seg"], kept)
            terms += [lsgan(scores["cls"], 0.0), lsgan(scores["seg"], kept)]
            terms.append(self.consistency * F.mse_loss(scores["seg"], wanted))
        return torch.stack(terms).sum()


def box(height: int, width: int) -> Tensor:
    """(1,1,H,W) ones with a random box of zeros."""
    area, down, along = torch.rand(3).tolist()
    mask = torch.ones(1, 1, height, width)
    half = area**0.5 / 2
    rows, columns = (
        slice(max(0, round((at - half) * side)), max(0, round((at + half) * side)))
        for at, side in ((down, height), (along, width))
    )
    mask[..., rows, columns] = 0
    return mask


class FoolDomains(nn.Module):
    """Adversarial loss of the generator: its images to 1, whole and by pixel, in each domain with a weight.

    Parameters
    ----------
    image:
        Weight of the image's scores.
    gradient:
        Weight of the gradient's scores.
    """

    def __init__(self, image: Weight = 1.0, gradient: Weight = 1.0) -> None:
        super().__init__()
        self.image, self.gradient = image, gradient

    def forward(self, prediction: Tensor, target: Tensor, *, scores: Scores, **context: Any) -> Tensor:
        total = prediction.new_zeros(())
        for name, score in judged(scores):
            total = total + (self.gradient if name.startswith("gradient_") else self.image) * lsgan(score, 1.0)
        return total
