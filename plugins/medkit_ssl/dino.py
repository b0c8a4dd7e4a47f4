"""DINO: the student, from any crop, predicts which of many prototypes the teacher sees in the whole views."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.api import Batch, Channels
from medkit.parts.across_ranks import gather_rows
from medkit_ssl.pooling import Pool, Pooled
from medkit_ssl.precision import precise
from medkit_ssl.projector import Width
from medkit_ssl.spread import Spreading
from medkit_ssl.views import compared

Temperature = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class DINO(Spreading):
    """Self-distillation with no labels (Caron et al. 2021, eq. 1 to 4): cross-entropy to a centred, sharp teacher.

    The student sees the two ``views`` and, if the data block makes them, the smaller ``crops``; the teacher the views.
    With ``P_t = softmax((teacher - c) / t_t)`` and ``P_s = softmax(student / t_s)`` the loss is the mean of
    ``-P_t . log P_s`` over all pairs of a teacher's and a student's view other than the same one. The centre becomes
    ``m c + (1 - m) mean(teacher)`` after every batch, over the rows of all ranks. The teacher's temperature rises
    linearly to its final value in the first ``warmup`` of the training (the paper: 30 epochs of 100 to 800). Instead of
    the class token, pyramids give the mean of a map. The paper has 65,536 prototypes for ImageNet, 17 million weights;
    4,096 suit thousands of slices. Its first epoch leaves the prototypes as they are; here they train from the start.

    Parameters
    ----------
    prototypes:
        Width of the output.
    hidden:
        Width of the projector's two hidden layers, with GELU and without batch norm.
    bottleneck:
        Width of the rows, of length 1, that prototypes of length 1 are multiplied with.
    student_temperature:
        t_s.
    teacher_temperature:
        t_t after its warm-up.
    first_temperature:
        t_t at the beginning.
    warmup:
        Share of the training during which t_t rises.
    centre_momentum:
        m, the share of the centre that a batch keeps.
    level:
        Level of the pyramid that is projected, 0 for the shallowest, -1 for the deepest.
    pool:
        How a map becomes a number.
    """

    momentum = 0.996
    centre: Tensor

    def __init__(
        self,
        channels: Channels,
        prototypes: Width = 4096,
        hidden: Width = 2048,
        bottleneck: Width = 256,
        student_temperature: Temperature = 0.1,
        teacher_temperature: Temperature = 0.07,
        first_temperature: Temperature = 0.04,
        warmup: Share = 0.1,
        centre_momentum: Share = 0.9,
        level: int = -1,
        pool: Pool = "mean",
    ) -> None:
        super().__init__()
        self.student_temperature, self.centre_momentum = student_temperature, centre_momentum
        self.teacher_temperature, self.first_temperature, self.warmup = teacher_temperature, first_temperature, warmup
        pooled = Pooled(channels, level, pool)
        widths = (pooled.width, hidden, hidden, bottleneck)
        self.projector = nn.Sequential(pooled, *_layers(widths), Prototypes(bottleneck, prototypes))
        self.register_buffer("centre", torch.zeros(prototypes))

    def view(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        views = compared(batch["views"])
        return [views, batch["crops"]] if "crops" in batch else [views], [views]

    def temperature(self, progress: float) -> float:
        """t_t after ``progress`` of the training."""
        if progress >= self.warmup:
            return self.teacher_temperature
        return self.first_temperature + (self.teacher_temperature - self.first_temperature) * progress / self.warmup

    @precise
    def loss(self, student: Sequence[Tensor], teacher: Sequence[Tensor], progress: float) -> dict[str, Tensor]:
        (said,) = teacher
        self.spread(student[0])
        wanted = torch.softmax((said - self.centre) / self.temperature(progress), 2)
        logs = [F.log_softmax(rows / self.student_temperature, 2) for rows in student]
        views, *crops = logs
        terms = []
        for i, target in enumerate(wanted.unbind(1)):
            others = [log for j, log in enumerate(views.unbind(1)) if j != i]
            others += [log for rows in crops for log in rows.unbind(1)]
            terms += [-(target * log).sum(1).mean() for log in others]
        if self.training:
            self._move(said)
        return {"cross_entropy": torch.stack(terms).mean()}

    @torch.no_grad()
    def _move(self, said: Tensor) -> None:
        every, _ = gather_rows(said.flatten(0, 1))
        self.centre.lerp_(every.mean(0), 1 - self.centre_momentum)


class Prototypes(nn.Module):
    """Products of rows with prototypes, both of length 1: (n,D) to (n,P)."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, rows: Tensor) -> Tensor:
        return F.linear(F.normalize(rows, dim=1), F.normalize(self.weight, dim=1))


def _layers(widths: tuple[int, ...]) -> list[nn.Module]:
    """Linear layers with GELU between them, initialised as in the paper."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        linear = nn.Linear(before, after)
        nn.init.trunc_normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.GELU()]
    return layers[:-1]
