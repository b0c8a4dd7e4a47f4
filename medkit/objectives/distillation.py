"""A student that learns from its own average over time, beside pretext heads on the same encoder."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.objectives.common import modules
from medkit.objectives.multitask import Multitask, Passes, numbers_of, seen_by, total
from medkit.protocols import Batch
from medkit.protocols.distilling import Distiller
from medkit.protocols.losses import TieLoss
from medkit.registry.marks import Placed, Slot

MOMENTUM = 0.996
"""For a distilling head that does not set its own."""

Share = Annotated[float, Field(ge=0, le=1)]


class Distillation(Multitask):
    """Self-distillation: a student's encoder learns to predict what its teacher says about other views of an image.

    The teacher is an exponential moving average of the student's encoder and projectors (Grill et al. 2020, Algorithm
    1): after step k of K each of its weights is ``m_k * teacher + (1 - m_k) * student`` with
    ``m_k = end - (end - m) * (cos(pi * k / K) + 1) / 2``. It starts as a copy, has no gradients, is in the student's
    mode, and its buffers (batch-norm statistics) are its own. Pretext heads and ties train on the student's encoder, as
    in ``multitask``; inputs that are the same memory share one pass through it.

    Parts: ``encoder`` is the student, ``teacher.encoder`` the teacher, which DINO evaluates; ``distil.NAME`` and
    ``teacher.distil.NAME`` are a distilling head and the teacher's projector. ``from: stage.teacher.encoder`` takes the
    teacher.

    Parameters
    ----------
    encoder:
        The student's feature pyramid.
    distil:
        Distilling heads by name, each with the weight of its loss.
    heads:
        Pretext heads by name, each with the weight of its loss.
    ties:
        Losses between the raw outputs of two pretext heads.
    momentum:
        Share of the teacher that the first step keeps; null: what the distilling heads say. An average remembers about
        ``1 / (1 - momentum)`` steps: trainings of a few thousand steps need a lower one than the papers'.
    momentum_end:
        Share that the last step keeps; the schedule goes there along half a cosine.
    slices_at_once:
        Slices per forward pass in evaluation.
    combine:
        How the losses' gradients of the encoder become one: their ``sum``, or ``pcgrad``, without their conflicts.
    """

    copied_parts: ClassVar[dict[str, str]] = {"teacher.encoder": "encoder"}
    position: Tensor
    distil: Any

    def __init__(
        self,
        encoder: Annotated[nn.Module, Slot("encoder")],
        distil: Annotated[dict[str, Placed], Slot("distiller", weight=1.0)],
        heads: Annotated[dict[str, Placed], Slot("pretext", weight=1.0)] = {},  # noqa: B006
        ties: Annotated[list[Placed], Slot("loss", TieLoss, weight=1.0, between=[])] = [],  # noqa: B006
        momentum: Share | None = None,
        momentum_end: Share = 1.0,
        slices_at_once: Annotated[int, Field(gt=0)] = 32,
        combine: Literal["sum", "pcgrad"] = "sum",
    ) -> None:
        super().__init__(encoder, heads, ties, slices_at_once, combine)
        if not distil:
            raise InputError("a distillation needs at least one distilling head")
        if both := [name for name in distil if name in heads]:
            raise InputError(f"'{both[0]}' is the name of a head and of a distilling head", hint="rename one of them")
        self.distil = modules(distil)
        self.weights |= {name: float(item["weight"]) for name, item in distil.items()}
        self.momentum = _momentum(self.distil) if momentum is None else momentum
        self.momentum_end = momentum_end
        self.teacher = Teacher(encoder, self._projectors())
        # The step, and how many there are: in a buffer, so that validation after a resume knows where it stands.
        self.register_buffer("position", torch.tensor([0, 1]))

    def _check_heads(self, heads: Mapping[str, Placed]) -> None:
        """None is needed: the distilling heads are enough."""

    def parts(self) -> Mapping[str, Any]:
        return {**self._trained(), **self.teacher.parts()}

    def _trained(self) -> dict[str, Any]:
        return {**super()._trained(), **{f"distil.{name}": head for name, head in self.distil.items()}}

    def _projectors(self) -> dict[str, nn.Module]:
        return {name: head.projector for name, head in self.distil.items()}

    def _views(self, batch: Batch) -> Iterator[Callable[[], Any]]:
        yield from super()._views(batch)
        for name, head in self.distil.items():
            yield partial(seen_by, Distiller, name, head, batch)

    def epoch_numbers(self) -> dict[str, float]:
        return {**super().epoch_numbers(), **numbers_of(self.distil)}

    def losses(self, turn: str, batch: Batch) -> dict[str, Tensor]:
        encode = Passes(self.encoder)
        found = self.head_losses(batch, encode)
        self.teacher.in_mode_of(self.encoder, self._projectors())
        teach = Passes(self.teacher.encoder)
        for name, head in self.distil.items():
            seen, taught = seen_by(Distiller, name, head, batch)
            with torch.no_grad():
                wanted = [_rows(images, teach, self.teacher.projectors[name]) for images in taught]
            said = [_rows(images, encode, head.projector, getattr(head, "predictor", None)) for images in seen]
            found[name] = self.weights[name] * total(name, head.loss(said, wanted, self.progress))
        return found

    @property
    def progress(self) -> float:
        """The share of the training's steps already taken."""
        step, steps = self.position.tolist()
        return float(step / steps)

    def before_step(self, turn: str, step: int, steps: int) -> None:
        self.position.copy_(torch.tensor([step, steps]))

    def after_step(self, turn: str) -> None:
        momentum = momentum_at(self.progress, self.momentum, self.momentum_end)
        self.teacher.follow(self.encoder, self._projectors(), momentum)


class Teacher(nn.Module):
    """Averages of an encoder and of projectors by name, which start as copies and are not trained."""

    encoder: Any

    def __init__(self, encoder: nn.Module, projectors: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.projectors = nn.ModuleDict({name: copy.deepcopy(module) for name, module in projectors.items()})
        self.requires_grad_(False)

    def parts(self) -> dict[str, nn.Module]:
        named = {f"teacher.distil.{name}": module for name, module in self.projectors.items()}
        return {"teacher.encoder": self.encoder, **named}

    def _pairs(self, encoder: nn.Module, projectors: Mapping[str, nn.Module]) -> Iterator[tuple[nn.Module, nn.Module]]:
        yield self.encoder, encoder
        for name, module in projectors.items():
            yield self.projectors[name], module

    def in_mode_of(self, encoder: nn.Module, projectors: Mapping[str, nn.Module]) -> None:
        """Each module in training or evaluation mode like the student's: what is frozen there is frozen here too."""
        for mine, theirs in self._pairs(encoder, projectors):
            for module, other in zip(mine.modules(), theirs.modules(), strict=True):
                module.training = other.training

    @torch.no_grad()
    def follow(self, encoder: nn.Module, projectors: Mapping[str, nn.Module], momentum: float) -> None:
        """One step towards the student."""
        for mine, theirs in self._pairs(encoder, projectors):
            for kept, newest in zip(mine.parameters(), theirs.parameters(), strict=True):
                kept.lerp_(newest, 1 - momentum)


def momentum_at(progress: float, start: float, end: float) -> float:
    """The share of the teacher that a step keeps, ``progress`` of the training being over (:class:`Distillation`)."""
    return end - (end - start) * (math.cos(math.pi * progress) + 1) / 2


def _momentum(distil: Mapping[str, nn.Module]) -> float:
    """What the distilling heads' papers use, if they agree."""
    wanted = {name: float(getattr(head, "momentum", MOMENTUM)) for name, head in distil.items()}
    if len(set(wanted.values())) > 1:
        said = ", ".join(f"{value:g} ({name})" for name, value in wanted.items())
        raise InputError(
            f"the distilling heads share one teacher but need different momenta: {said}",
            hint="write 'momentum' in the objective",
        )
    return next(iter(wanted.values()))


def _rows(images: Tensor, encode: Passes, projector: Any, predictor: Any = None) -> Tensor:
    """(N,V,C,H,W) images to (N,V,D) rows."""
    rows: Tensor = projector(encode(images.flatten(0, 1)))
    return (rows if predictor is None else predictor(rows)).unflatten(0, images.shape[:2])
