"""A generator against a discriminator: two turns per batch, each with its own losses, optimizer and combination."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.objectives.common import modules, restore_slices, trainable
from medkit.protocols import Batch, Turn
from medkit.protocols.losses import DiscriminatorLoss, GeneratorLoss
from medkit.registry.marks import Placed, Slot

Combine = Literal["sum", "pcgrad"]


class Adversarial(nn.Module):
    """Adversarial image-to-image training (thesis part C).

    The discriminator's turn comes first. Each of its losses is one task and gets ``(real, fake)``: the scores of the
    target and of the generated image, both dictionaries, with ``input``, ``target``, ``output`` and ``discriminator``
    (callable, for a second pass) as context. Losses of the generator get ``(output, target)`` with ``scores`` (of the
    output) and ``input``; then the discriminator stays in training mode, as published, but gathers no gradients.
    Only the generator is evaluated. With ``ema``, that is its average: the part ``generator``, saved under that name
    and taken by ``from:``, is the averaged one; ``generator_in_training`` is the other, and the one to unfreeze.

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
    critic_steps:
        Steps of the discriminator on each batch before the generator's step (Wasserstein critics: 4 or 5).
    ema:
        Decay of an exponential moving average of the generator's weights, which predicts in its place; after n steps
        it is at most ``(1 + n) / (10 + n)``, so that the random start is soon forgotten. null: no average.
    slices_at_once:
        Slices per forward pass in evaluation.
    tile:
        Side in pixels of the overlapping tiles that slices are restored in; default: a whole slice in one pass.
    overlap:
        Share of a tile that its neighbour covers too, in [0, 1).
    blend:
        How overlapping tiles are averaged: ``gaussian`` hides seams, ``constant`` is a plain mean.
    """

    unit = "patch"
    units = ("patch", "slice")
    copied_parts: ClassVar[dict[str, str]] = {"generator_in_training": "generator"}
    discriminator: Any

    def __init__(
        self,
        generator: Annotated[nn.Module, Slot("generator")],
        discriminator: Annotated[nn.Module, Slot("discriminator")],
        generator_losses: Annotated[dict[str, Placed], Slot("loss", GeneratorLoss, weight=1.0)],
        discriminator_losses: Annotated[dict[str, Placed], Slot("loss", DiscriminatorLoss, weight=1.0)],
        combine: dict[Literal["generator", "discriminator"], Combine] = {},  # noqa: B006
        critic_steps: Annotated[int, Field(gt=0)] = 1,
        ema: Annotated[float, Field(gt=0, lt=1)] | None = None,
        slices_at_once: Annotated[int, Field(gt=0)] = 1,
        tile: Annotated[int, Field(gt=0)] | None = None,
        overlap: Annotated[float, Field(ge=0, lt=1)] = 0.25,
        blend: Literal["gaussian", "constant"] = "gaussian",
    ) -> None:
        super().__init__()
        if not generator_losses or not discriminator_losses:
            raise InputError("both the generator and the discriminator need a loss")
        if both := [name for name in generator_losses if name in discriminator_losses]:
            what = f"a loss of the generator and one of the discriminator are both named '{both[0]}'"
            raise InputError(what, hint="give one of them another name: they are recorded side by side")
        self.generator, self.discriminator = generator, discriminator
        self.generator_criteria = modules(generator_losses)
        self.discriminator_criteria = modules(discriminator_losses)
        self.weights = {
            "generator": {name: float(item["weight"]) for name, item in generator_losses.items()},
            "discriminator": {name: float(item["weight"]) for name, item in discriminator_losses.items()},
        }
        self.combine = dict(combine)
        self.critic_steps = critic_steps
        self.average = None if ema is None else Average(generator, ema)
        self.slices_at_once = slices_at_once
        self.tile, self.overlap, self.blend = tile, overlap, blend

    def turns(self) -> Sequence[Turn]:
        network = "generator" if self.average is None else "generator_in_training"
        critic = ("discriminator", *trainable(self.discriminator_criteria, "discriminator_losses"))
        maker = (network, *trainable(self.generator_criteria, "generator_losses"))
        return [
            Turn("discriminator", critic, self.combine.get("discriminator", "sum"), self.critic_steps),
            Turn("generator", maker, self.combine.get("generator", "sum")),
        ]

    def parts(self) -> Mapping[str, Any]:
        parts = {"generator": self.generator, "discriminator": self.discriminator}
        if self.average is not None:
            parts |= {"generator": self.average.module, "generator_in_training": self.generator}
        losses = trainable(self.discriminator_criteria, "discriminator_losses")
        return {**parts, **losses, **trainable(self.generator_criteria, "generator_losses")}

    def shared_parameters(self, turn: str) -> Sequence[nn.Parameter]:
        if turn == "generator":
            return list(self.generator.parameters())
        return list(self.discriminator.shared_parameters())

    def reads(self, batch: Batch) -> set[str]:
        return {"image", "target"}

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

    def after_step(self, turn: str) -> None:
        """Let the average follow the generator; the engine calls this after each step of a turn."""
        if turn == "generator" and self.average is not None:
            self.average.follow(self.generator)

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        generator = self.generator if self.average is None else self.average.module
        how = (self.slices_at_once, self.tile, self.overlap, self.blend)
        return {"output": restore_slices(generator, batch["image"], *how)}


class Average(nn.Module):
    """An exponential moving average of a module's weights, in a copy of it; buffers are the module's newest.

    Parameters
    ----------
    module:
        What is averaged.
    decay:
        Share of the average that a step keeps, once n steps of ``(1 + n) / (10 + n)`` have grown to it.
    """

    module: nn.Module
    steps: Tensor

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.module = copy.deepcopy(module)
        # In a buffer, so that a checkpoint holds it and a resumed run continues with the same decay.
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def follow(self, module: nn.Module) -> None:
        """One step towards ``module``."""
        self.steps += 1
        steps = int(self.steps)
        decay = min(self.decay, (1 + steps) / (10 + steps))
        for mine, newest in zip(self.module.parameters(), module.parameters(), strict=True):
            mine.lerp_(newest, 1 - decay)
        for kept, buffer in zip(self.module.buffers(), module.buffers(), strict=True):
            kept.copy_(buffer)


@contextmanager
def _without_gradients(module: nn.Module) -> Iterator[None]:
    """A graph built inside leads through ``module`` but not to its parameters; frozen ones stay frozen afterwards."""
    trained = [p for p in module.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)
