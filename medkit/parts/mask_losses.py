"""Losses for masks with classes, and what segmentation heads and operators make of their logits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.parts.losses import BCE, Dice, soft_dice
from medkit.protocols import Batch
from medkit.protocols.classes import Classes
from medkit.registry.marks import MaskClasses

Form = Literal["dice", "dice_bce"]


def probabilities(logits: Tensor, classes: Classes | None, dim: int = 1) -> Tensor:
    """Probabilities of a mask or, along ``dim``, of each class, without the background's."""
    if classes is None or classes.overlapping:
        return torch.sigmoid(logits)
    return torch.softmax(logits, dim).narrow(dim, 1, len(classes))


def any_probability(logits: Tensor, classes: Classes | None) -> Tensor:
    """(N,1,H,W) the probability of any class, from logits (N,C,H,W)."""
    if classes is None:
        return torch.sigmoid(logits)
    if classes.overlapping:
        return torch.sigmoid(logits).amax(1, keepdim=True)
    return 1 - torch.softmax(logits, 1)[:, :1]


def drawn_probability(logits: Tensor, classes: Classes | None) -> Tensor:
    """(N,1,H,W) from logits (N,C,H,W): above 0.5 where a mask is predicted.

    Of classes that exclude each other it is how probable the likeliest is against none; of others, that of any.
    """
    if classes is None or classes.overlapping:
        return any_probability(logits, classes)
    return torch.sigmoid(logits[:, 1:].amax(1, keepdim=True) - logits[:, :1])


def one_hot(target: Tensor, classes: Classes) -> Tensor:
    """(N,K,H,W) where each class is, from a batch's mask."""
    if classes.overlapping:
        return target
    numbers = torch.arange(1, len(classes) + 1, device=target.device).view(1, -1, *[1] * (target.dim() - 2))
    return (target == numbers).to(target.dtype)


class ClassDice(nn.Module):
    """Soft Dice loss of masks with classes: the mean over the classes that a batch has.

    For each class it is ``medkit:dice``'s, with softmax probabilities over the classes and background, or with sigmoids
    if they overlap. Without classes it is ``medkit:dice`` itself. A batch without any class gives 0 and no gradient.

    Shapes: logits (N,K+1,H,W), background first, or (N,K,H,W) for overlapping classes; masks as batches have them;
    for patches of volumes, with a depth before the height.

    Parameters
    ----------
    smooth:
        Added to numerator and denominator.
    """

    def __init__(self, smooth: Annotated[float, Field(ge=0)] = 0.0, classes: MaskClasses = None) -> None:
        super().__init__()
        self.classes, self.one = classes, Dice(smooth)

    def forward(self, prediction: Tensor, target: Tensor, **context: Any) -> Tensor:
        if self.classes is None:
            found: Tensor = self.one(prediction, target)
            return found
        logits = prediction.float() if prediction.dtype.itemsize < 4 else prediction
        p = probabilities(logits, self.classes)
        t = one_hot(target, self.classes).to(p.dtype)
        over = (0, *range(2, t.dim()))
        loss = soft_dice(p, t, self.one.smooth, over)
        there = t.sum(over) > 0
        return (loss * there).sum() / there.sum().clamp(min=1)


class CrossEntropy(nn.Module):
    """Cross-entropy of masks, mean over pixels: over classes and background, or binary if they overlap or are none.

    Shapes: as for ``medkit:class_dice``.
    """

    def __init__(self, classes: MaskClasses = None) -> None:
        super().__init__()
        self.classes, self.bce = classes, BCE()

    def forward(self, prediction: Tensor, target: Tensor, **context: Any) -> Tensor:
        if self.classes is None or self.classes.overlapping:
            found: Tensor = self.bce(prediction, target)
            return found
        return F.cross_entropy(prediction, target[:, 0].long())


def image_and_mask(batch: Batch) -> tuple[Tensor, Tensor]:
    """What a segmentation head sees of a batch, and its target; InputError if the data have no masks."""
    if "mask" not in batch:
        hint = "name the source's masks (a manifest's 'mask' column), or take another head"
        raise InputError("segmentation needs masks, and these data have none", hint=hint)
    return batch["image"], batch["mask"]


class MaskLoss(nn.Module):
    """The loss terms of a segmentation head: ``dice`` and, with ``dice_bce``, a cross-entropy of pixels.

    Parameters
    ----------
    form:
        null: ``dice``, or ``dice_bce`` if masks have classes.
    """

    def __init__(self, form: Form | None, classes: Classes | None) -> None:
        super().__init__()
        self.form = form or ("dice" if classes is None else "dice_bce")
        self.dice, self.pixels = ClassDice(classes=classes), CrossEntropy(classes)
        self.name = "bce" if classes is None or classes.overlapping else "ce"

    def forward(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        terms = {"dice": self.dice(output, target)}
        if self.form == "dice_bce":
            terms[self.name] = self.pixels(output, target)
        return terms
