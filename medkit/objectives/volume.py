"""A task over whole volumes: an encoder slice by slice, an operator over depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.objectives.common import in_chunks, modules, trainable
from medkit.parts.depths import depths
from medkit.parts.label_losses import predicted
from medkit.parts.mask_losses import drawn_probability, probabilities
from medkit.protocols import Batch, Turn
from medkit.protocols.losses import Loss
from medkit.registry.marks import CaseLabels, MaskClasses, Placed, Slot


class VolumeTask(nn.Module):
    """Classify or segment volumes from stacked slice features (thesis part B, section 2.2.2).

    Only real slices are encoded; features are padded to (B,D,...) for the operator, which gets the lengths.

    Parameters
    ----------
    encoder:
        Feature pyramid of single slices, usually taken from a pretext stage.
    operator:
        What joins the slices; its ``task`` decides what the losses see: volume logits (B,) with labels, those of
        declared labels (B,outputs) if it asks for them, or the logits (S,1,H,W) of real slices with their masks.
    losses:
        Losses by name, each with its weight; they are summed into one task.
    slices_at_once:
        Slices per encoder pass. Fewer need less memory in evaluation; in training, activations of all slices
        are kept unless the encoder is frozen.
    """

    unit = "volume"
    operator: Any

    def __init__(
        self,
        encoder: Annotated[nn.Module, Slot("encoder")],
        operator: Annotated[nn.Module, Slot("operator")],
        losses: Annotated[dict[str, Placed], Slot("loss", Loss, weight=1.0)],
        slices_at_once: Annotated[int, Field(gt=0)] = 32,
        classes: MaskClasses = None,
        labels: CaseLabels = None,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.labels = labels if getattr(operator, "labels", None) is not None else None
        if getattr(operator, "task", None) not in ("classification", "segmentation"):
            raise InputError(f"operator '{type(operator).__name__}' says neither classification nor segmentation")
        self.encoder, self.operator = encoder, operator
        self.criteria = modules(losses)
        self.weights = {name: float(item["weight"]) for name, item in losses.items()}
        self.slices_at_once = slices_at_once

    def turns(self) -> Sequence[Turn]:
        return [Turn("train", tuple(self.parts()))]

    def parts(self) -> Mapping[str, Any]:
        return {"encoder": self.encoder, "operator": self.operator, **trainable(self.criteria, "losses")}

    def shared_parameters(self, turn: str) -> Sequence[nn.Parameter]:
        return [*self.encoder.parameters(), *self.operator.parameters()]

    def logits(self, batch: Batch) -> Tensor:
        """(B,) logits of volumes, (B,outputs) of declared labels, or logits of their real slices, (S,1,H,W) or of masks
        with classes (S,C,H,W)."""
        lengths = batch["lengths"]

        def one(images: Tensor) -> Tensor:
            with torch.set_grad_enabled(torch.is_grad_enabled() and self._encoder_trains()):
                features = self.encoder(images)
            return self.operator.slices(features)

        return self.over_depth(in_chunks(one, batch["image"], self.slices_at_once), lengths)

    def over_depth(self, slices: Tensor, lengths: Tensor) -> Tensor:
        """The logits of volumes, from what the operator made of their slices (S,...)."""
        each = depths(lengths, slices.shape[0])
        padded = nn.utils.rnn.pad_sequence(list(slices.split(each)), batch_first=True)
        logits = self.operator(padded, lengths)
        if self.operator.task == "classification":
            return logits.reshape(-1) if self.labels is None else logits
        slices = torch.cat([volume[:depth] for volume, depth in zip(logits, each, strict=True)])
        return slices[:, None] if slices.dim() == 3 else slices

    def _encoder_trains(self) -> bool:
        return any(p.requires_grad for p in self.encoder.parameters())

    def reads(self, batch: Batch) -> set[str]:
        return {"image", "lengths", self._target}

    @property
    def _target(self) -> str:
        if self.operator.task == "classification":
            return "label" if self.labels is None else "labels"
        return "mask"

    def losses(self, turn: str, batch: Batch) -> dict[str, Tensor]:
        logits = self.logits(batch)
        target = batch[self._target]
        return {name: self.weights[name] * loss(logits, target) for name, loss in self.criteria.items()}

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        return self.said(self.logits(batch).float(), batch["lengths"])

    def said(self, logits: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """What logits predict."""
        if self.labels is not None:
            return predicted(self.labels, logits)
        if self.operator.task == "classification":
            return {"probability": torch.sigmoid(logits)}
        probability = probabilities(logits, self.classes)
        volumes = drawn_probability(logits, self.classes).split(depths(lengths, logits.shape[0]))
        return {"mask_probability": probability, "probability": torch.stack([v.max() for v in volumes])}
