"""A mean teacher (Tarvainen and Valpola 2017): the head learns to say what the average of its past weights says."""

import copy
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from medkit.api import Batch, PretextHead, Slot, Turn, hookimpl, offered


@hookimpl
def medkit_register(registry: Any) -> None:
    registry.objective("mean_teacher", "mean_teacher:MeanTeacher", "a head, and an average of it to agree with")


class MeanTeacher(nn.Module):
    """A head on an encoder, and the average of both, which it has to agree with and which predicts.

    Parameters
    ----------
    encoder, head:
        What is trained.
    decay:
        Share of the average that a step keeps.
    """

    unit = "slice"

    def __init__(
        self,
        encoder: Annotated[nn.Module, Slot("encoder")],
        head: Annotated[nn.Module, Slot("pretext")],
        decay: Annotated[float, Field(ge=0, lt=1)] = 0.99,
    ) -> None:
        super().__init__()
        self.encoder, self.head, self.decay = encoder, head, decay
        self.teacher = copy.deepcopy(nn.Sequential(encoder, head)).requires_grad_(False)

    def turns(self) -> list[Turn]:
        return [Turn("student", ("encoder", "head"))]

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "head": self.head, "teacher": self.teacher}

    def losses(self, turn: str, batch: Batch) -> dict[str, Tensor]:
        image, target = offered(PretextHead, self.head, "view")(batch)
        out = self.head(self.encoder(image + 0.05 * torch.randn_like(image)))
        return {**self.head.loss(out, target), "agreement": (out - self.teacher(image)).square().mean()}

    @torch.no_grad()
    def after_step(self, turn: str) -> None:
        student = nn.Sequential(self.encoder, self.head).parameters()
        for mine, newest in zip(self.teacher.parameters(), student, strict=True):
            mine.lerp_(newest, 1 - self.decay)

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        return offered(PretextHead, self.head, "predict")(self.teacher(batch["image"]))
