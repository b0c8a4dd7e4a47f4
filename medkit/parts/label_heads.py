"""Heads for the labels that a data block declares: classes, several at once, ordered ones, measurements."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.parts.convblocks import initialise_head
from medkit.parts.label_losses import (
    Distance,
    LabelLayer,
    Positive,
    Weights,
    binary_per_class,
    coral,
    cross_entropy,
    declared,
    distance,
    of_classes,
    predicted,
)
from medkit.protocols import Batch
from medkit.protocols.labels import Labels
from medkit.registry.marks import CaseLabels, Channels

Dropout = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[int, Field(gt=0)]
Fields = tuple[str, ...]


class LabelHead(nn.Module):
    """Average pool of the deepest map, fields of the case appended, hidden layer if any, dropout, last layer.

    The map may be of slices, (N,C,H,W), or of patches of volumes, (N,C,D,H,W). ``labels``
    (:class:`medkit.protocols.labels.Labels`) has the names of the classes, or the unit.
    """

    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    label_kinds: ClassVar[tuple[str, ...]]
    labels: Labels

    def __init__(self, channels: tuple[int, ...], labels: Labels | None, layers: Layers) -> None:
        super().__init__()
        self.labels = declared(labels, type(self).__name__.lower())
        if self.labels.kind not in self.label_kinds:
            raise InputError(f"'{type(self).__name__.lower()}' does not take {self.labels.in_words}")
        self.needs = tuple(layers.fields)
        width = channels[-1] + len(self.needs)
        self.hidden = None if layers.hidden is None else nn.Linear(width, layers.hidden)
        if self.hidden is not None:
            initialise_head(self.hidden)
        self.dropout = nn.Dropout(layers.dropout)
        self.last = LabelLayer(layers.hidden or width, self.labels)

    def view(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return batch["image"], batch["labels"]

    def forward(self, features: list[Tensor], **fields: Tensor) -> Tensor:
        deepest = features[-1]
        x = deepest.mean(tuple(range(2, deepest.dim())))
        if self.needs:
            x = torch.cat([x, *(fields[name].to(x.dtype)[:, None] for name in self.needs)], 1)
        if self.hidden is not None:
            x = torch.relu(self.hidden(x))
        found: Tensor = self.last(self.dropout(x))
        return found

    def predict(self, output: Tensor) -> dict[str, Tensor]:
        return predicted(self.labels, output)


class Layers:
    """What comes between the pooled map and the last layer."""

    def __init__(self, hidden: int | None, dropout: float, fields: Fields) -> None:
        self.hidden, self.dropout, self.fields = hidden, dropout, fields


class Classification(LabelHead):
    """Which of several classes is it? Cross-entropy.

    Shapes: pyramid to (N,K) logits; ``class_probability`` by softmax.

    Parameters
    ----------
    dropout:
        Before the last layer.
    hidden:
        Width of a layer before that; null: none.
    fields:
        Numeric fields of the case that are appended to the pooled map, such as ``[sex]``.
    weight:
        Factor of the loss of a class's cases, by its name; default: 1.
    """

    label_kinds = ("one_of",)
    weight: Tensor | None

    def __init__(
        self,
        channels: Channels,
        dropout: Dropout = 0.0,
        hidden: Width | None = None,
        fields: Fields = (),
        weight: dict[str, Positive] | None = None,
        labels: CaseLabels = None,
    ) -> None:
        super().__init__(channels, labels, Layers(hidden, dropout, fields))
        self.register_buffer("weight", of_classes(weight, self.labels, "weight"), persistent=False)

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"ce": cross_entropy(output, target, self.weight)}


class Multilabel(LabelHead):
    """Which of several classes are there? Binary cross-entropy of each.

    A class that is not known for a case plays no part in its loss. Shapes: pyramid to (N,K) logits;
    ``label_probability`` by sigmoids.

    Parameters
    ----------
    dropout:
        Before the last layer.
    hidden:
        Width of a layer before that; null: none.
    fields:
        Numeric fields of the case that are appended to the pooled map, such as ``[sex]``.
    positive_weight:
        Factor of positive cases, for all classes or for each by its name; default: 1.
    """

    label_kinds = ("any_of",)
    positive_weight: Tensor | None

    def __init__(
        self,
        channels: Channels,
        dropout: Dropout = 0.0,
        hidden: Width | None = None,
        fields: Fields = (),
        positive_weight: Weights | None = None,
        labels: CaseLabels = None,
    ) -> None:
        super().__init__(channels, labels, Layers(hidden, dropout, fields))
        weight = of_classes(positive_weight, self.labels, "positive_weight")
        self.register_buffer("positive_weight", weight, persistent=False)

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"bce": binary_per_class(output, target, self.positive_weight)}


class Ordinal(LabelHead):
    """Which of several ordered classes is it? Consistent rank logits (CORAL).

    One score with K - 1 biases: ``P(y > k) = sigmoid(g(x) + b_k)``, trained as K - 1 binary tasks
    (:func:`medkit.parts.label_losses.coral`). The prediction is the median: the class above as many thresholds as are
    passed with more than 0.5. Shapes: pyramid to (N,K-1) logits; ``class_probability`` (N,K) by differences. Source:
    Cao, Mirjalili and Raschka, Pattern Recognition Letters 140, 2020.

    Parameters
    ----------
    dropout:
        Before the last layer.
    hidden:
        Width of a layer before that; null: none.
    fields:
        Numeric fields of the case that are appended to the pooled map, such as ``[sex]``.
    """

    label_kinds = ("ordered",)

    def __init__(
        self,
        channels: Channels,
        dropout: Dropout = 0.0,
        hidden: Width | None = None,
        fields: Fields = (),
        labels: CaseLabels = None,
    ) -> None:
        super().__init__(channels, labels, Layers(hidden, dropout, fields))

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"coral": coral(output, target)}


class Regression(LabelHead):
    """How much is it? ``start + scale`` times the output of the last layer, in the unit of the labels.

    Shapes: pyramid to (N,1); ``value`` (N,).

    Parameters
    ----------
    distance:
        ``l1``, ``l2`` or ``huber`` between values and labels, in their unit (``l2``: its square).
    delta:
        Where ``huber`` becomes linear, in the unit of the labels.
    start:
        Roughly what an untrained network predicts, such as the mean of the training labels.
    scale:
        How far values spread around it, such as the labels' deviation: the last layer then gives numbers of about 1.
    dropout:
        Before the last layer.
    hidden:
        Width of a layer before that; null: none.
    fields:
        Numeric fields of the case that are appended to the pooled map, such as ``[sex]``.
    """

    label_kinds = ("unit",)

    def __init__(
        self,
        channels: Channels,
        distance: Distance = "l1",
        delta: Positive = 1.0,
        start: float = 0.0,
        scale: Positive = 1.0,
        dropout: Dropout = 0.0,
        hidden: Width | None = None,
        fields: Fields = (),
        labels: CaseLabels = None,
    ) -> None:
        super().__init__(channels, labels, Layers(hidden, dropout, fields))
        self.distance, self.delta, self.start, self.scale = distance, delta, start, scale

    @property
    def unit(self) -> str:
        """The unit of its values."""
        return self.labels.unit

    def forward(self, features: list[Tensor], **fields: Tensor) -> Tensor:
        return self.start + self.scale * super().forward(features, **fields).float()

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {self.distance: distance(output[:, 0], target.to(output.dtype), self.distance, self.delta)}
