"""Losses of MTD-GAN's two turns. Scores are raw; targets are 1 for real and 0 for fake (least squares)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

Scores = dict[str, Tensor]
Reduction = Literal["mean", "masked"]


def lsgan(scores: Tensor, target: float) -> Tensor:
    """Mean of (D - t)^2 (Mao et al., Least squares GAN)."""
    return (scores - target).square().mean()


def nds(scores: Tensor, target: float, low: Tensor, full: Tensor, eps: float = 0.0, reduction: str = "mean") -> Tensor:
    """Non-difference suppression (thesis eq. 3 and 6): (D - t)^2 where the image pair differs, zero elsewhere.

    Parameters
    ----------
    scores:
        (N,1,H,W) per-pixel scores.
    low, full:
        (N,1,H,W) low- and normal-dose images in windowed [0,1] space; pixels with ``|low - full| <= eps`` are
        suppressed. The default 0 is the published exact inequality.
    reduction:
        ``mean`` over all pixels (published), or ``masked``: over those not suppressed.
    """
    mask = (low - full).abs() > eps
    total = (scores - target).square() * mask
    return total.mean() if reduction == "mean" else total.sum() / mask.sum().clamp(min=1)


class RealFake(nn.Module):
    """Adversarial loss of the discriminator: real to 1, fake to 0, per image and per pixel (NDS, eq. 3).

    Parameters
    ----------
    eps:
        Largest difference, in window fractions, that counts as none.
    reduction:
        ``mean`` over all pixels, or ``masked``: over those that differ.
    suppress:
        False leaves out the NDS mask (rows a to f of Table 10).
    """

    def __init__(
        self, eps: Annotated[float, Field(ge=0)] = 0.0, reduction: Reduction = "mean", suppress: bool = True
    ) -> None:
        super().__init__()
        self.eps, self.reduction, self.suppress = eps, reduction, suppress

    def forward(self, real: Scores, fake: Scores, *, input: Tensor, target: Tensor, **context: Any) -> Tensor:
        terms = []
        if "cls" in real:
            terms += [lsgan(real["cls"], 1.0), lsgan(fake["cls"], 0.0)]
        if "seg" in real:
            for scores, goal in ((real["seg"], 1.0), (fake["seg"], 0.0)):
                terms.append(
                    nds(scores, goal, input, target, self.eps, self.reduction) if self.suppress else lsgan(scores, goal)
                )
        return torch.stack(terms).sum()


class Reconstruct(nn.Module):
    """The discriminator's reconstruction loss: L1 on the real image and on the generated one."""

    def forward(self, real: Scores, fake: Scores, *, target: Tensor, output: Tensor, **context: Any) -> Tensor:
        return F.l1_loss(real["rec"], target) + F.l1_loss(fake["rec"], output)


class Consist(nn.Module):
    """Reconstruction consistency (thesis eq. 4): scores of an image and of its reconstruction agree.

    The reconstructions are clipped to [0,1] and passed through the discriminator a second time. Nothing is detached
    (published code), unless ``detach_target`` is set; the norm is the mean square, or L1.

    Parameters
    ----------
    norm:
        ``l2`` (mean square, published) or ``l1``.
    detach_target:
        Stop the gradient through the scores of the images themselves.
    """

    def __init__(self, norm: Literal["l1", "l2"] = "l2", detach_target: bool = False) -> None:
        super().__init__()
        self.norm, self.detach_target = norm, detach_target

    def forward(
        self, real: Scores, fake: Scores, *, discriminator: Callable[[Tensor], Scores], **context: Any
    ) -> Tensor:
        distance = F.mse_loss if self.norm == "l2" else F.l1_loss
        total = real["rec"].new_zeros(())
        for scores in (real, fake):
            again = discriminator(scores["rec"].clamp(0, 1))
            for task in ("cls", "seg"):
                if task in scores:
                    wanted = scores[task].detach() if self.detach_target else scores[task]
                    total = total + distance(again[task], wanted)
        return total


class Fool(nn.Module):
    """Adversarial loss of the generator: its images to 1, per image and per pixel (NDS, eq. 6).

    Parameters
    ----------
    eps:
        Largest difference, in window fractions, that counts as none.
    reduction:
        ``mean`` over all pixels, or ``masked``: over those that differ.
    suppress:
        False leaves out the NDS mask.
    """

    def __init__(
        self, eps: Annotated[float, Field(ge=0)] = 0.0, reduction: Reduction = "mean", suppress: bool = True
    ) -> None:
        super().__init__()
        self.eps, self.reduction, self.suppress = eps, reduction, suppress

    def forward(self, prediction: Tensor, target: Tensor, *, scores: Scores, input: Tensor, **context: Any) -> Tensor:
        total = prediction.new_zeros(())
        if "cls" in scores:
            total = total + lsgan(scores["cls"], 1.0)
        if "seg" in scores:
            total = total + (
                nds(scores["seg"], 1.0, input, target, self.eps, self.reduction)
                if self.suppress
                else lsgan(scores["seg"], 1.0)
            )
        return total
