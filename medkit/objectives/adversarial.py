"""A generator against a discriminator: two turns a batch, each with its own losses, optimizer and combination."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.marks import Placed, Slot
from medkit.objectives.common import in_chunks, modules
from medkit.protocols import Batch, Turn

Combine = Literal["sum", "pcgrad"]


class Adversarial(nn.Module):
    """Adversarial image-to-image training (thesis part C).

    The discriminator's turn comes first. Each of its losses is one task and gets ``(real, fake)``: the scores of the
    target and of the generated image, both dictionaries, with ``input``, ``target``, ``output`` and ``discriminator``
    (callable, for a second pass) as context. Losses of the generator get ``(output, target)`` with ``scores`` (of the
    output) and ``input``; then the discriminator stays in training mode, as published, but gathers no gradients.
    Only the generator is evaluated.

    Parameters
    ----------
    generator:
        Network from an image to an image of the same shape.
    discriminator:
        Network from an image to named raw scores.
    generator_losses:
        Losses by name, each with its weight.
    discriminator_losses:
        Losses by name, each with its weight; each is one task.
    combine:
        ``sum`` or ``pcgrad`` by turn; what is not named is summed.
    slices_at_once:
        Slices a forward pass takes in evaluation.
    """

    unit = "patch"
    discriminator: Any

    def __init__(
        self,
        generator: Annotated[nn.Module, Slot("generator")],
        discriminator: Annotated[nn.Module, Slot("discriminator")],
        generator_losses: Annotated[dict[str, Placed], Slot("loss", weight=1.0)],
        discriminator_losses: Annotated[dict[str, Placed], Slot("loss", weight=1.0)],
        combine: dict[Literal["generator", "discriminator"], Combine] = {},  # noqa: B006
        slices_at_once: Annotated[int, Field(gt=0)] = 1,
    ) -> None:
        super().__init__()
        if not generator_losses or not discriminator_losses:
            raise InputError("both the generator and the discriminator need a loss")
        self.generator, self.discriminator = generator, discriminator
        self.generator_criteria = modules(generator_losses)
        self.discriminator_criteria = modules(discriminator_losses)
        self.weights = {
            "generator": {name: float(item["weight"]) for name, item in generator_losses.items()},
            "discriminator": {name: float(item["weight"]) for name, item in discriminator_losses.items()},
        }
        self.combine = dict(combine)
        self.slices_at_once = slices_at_once

    def turns(self) -> Sequence[Turn]:
        return [Turn(name, (name,), self.combine.get(name, "sum")) for name in ("discriminator", "generator")]

    def parts(self) -> Mapping[str, Any]:
        return {"generator": self.generator, "discriminator": self.discriminator}

    def shared_parameters(self, turn: str) -> Sequence[nn.Parameter]:
        if turn == "generator":
            return list(self.generator.parameters())
        return list(self.discriminator.shared_parameters())

    def losses(self, turn: str, batch: Batch) -> dict[str, Tensor]:
        weights = self.weights[turn]
        low, target = batch["image"], batch["target"]
        if turn == "discriminator":
            with torch.no_grad():
                output = self.generator(low)
            real, fake = self.discriminator(target), self.discriminator(output)
            context = {"input": low, "target": target, "output": output, "discriminator": self.discriminator}
            return {n: weights[n] * loss(real, fake, **context) for n, loss in self.discriminator_criteria.items()}
        output = self.generator(low)
        with _without_gradients(self.discriminator):
            scores = self.discriminator(output)
        return {
            n: weights[n] * loss(output, target, scores=scores, input=low)
            for n, loss in self.generator_criteria.items()
        }

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        return {"output": in_chunks(self.generator, batch["image"], self.slices_at_once).clamp(0, 1)}


@contextmanager
def _without_gradients(module: nn.Module) -> Iterator[None]:
    """A graph built inside leads through ``module`` but not to its parameters; frozen ones stay frozen after it."""
    trained = [p for p in module.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)
