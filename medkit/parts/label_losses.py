"""How declared labels are predicted: the last layer, its losses, and predictions under their standard names.

Every item counts alike in all of them, so that a batch divided among ranks has the mean of the whole one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.errors import InputError, did_you_mean
from medkit.parts.convblocks import initialise_head
from medkit.protocols.labels import Labels
from medkit.registry.marks import CaseLabels

Distance = Literal["l1", "l2", "huber"]
Positive = Annotated[float, Field(gt=0)]
Weights = Positive | dict[str, Positive]
"""One factor for all classes, or one for each that is named."""


class LabelLayer(nn.Module):
    """The last layer, (N,F) to (N,outputs): linear; for ordered classes one weight vector and K - 1 biases.

    The latter is the CORAL layer of Cao, Mirjalili and Raschka (Pattern Recognition Letters 140, 2020): ``g(x) + b_k``
    is the logit of "more than the k-th class". Biases start at 0.
    """

    def __init__(self, width: int, labels: Labels) -> None:
        super().__init__()
        ordered = labels.kind == "ordered"
        self.linear = nn.Linear(width, 1 if ordered else labels.outputs, bias=not ordered)
        initialise_head(self.linear)
        self.biases = nn.Parameter(torch.zeros(labels.outputs)) if ordered else None

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.linear(x)
        return found if self.biases is None else found + self.biases


def cross_entropy(logits: Tensor, numbers: Tensor, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy of logits (N,K) and class numbers (N,), times the weight (K,) of the true class; the mean."""
    each = F.cross_entropy(logits, numbers.long(), reduction="none")
    return (each if weight is None else each * weight[numbers.long()]).mean()


def binary_per_class(logits: Tensor, flags: Tensor, positive_weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of logits and flags (N,K): summed over the classes that are known for an item (not nan),
    divided by K, and the mean over items. An unknown class has no gradient."""
    known = ~torch.isnan(flags)
    wanted = torch.where(known, flags, torch.zeros_like(flags)).to(logits.dtype)
    each = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=positive_weight, reduction="none")
    return torch.where(known, each, torch.zeros_like(each)).mean()


def coral(logits: Tensor, numbers: Tensor) -> Tensor:
    """The loss of CORAL with equally weighted tasks, the mean over items (N,) of
    ``-sum_k [log s(z_k) t_k + (log s(z_k) - z_k) (1 - t_k)]``; s is the sigmoid, ``t_k`` 1 if the class is above k.

    Source: Cao, Mirjalili and Raschka, Pattern Recognition Letters 140, 2020: weighted cross-entropy of the K - 1
    binary tasks; ``log s(z) - z`` is ``log(1 - s(z))``.
    """
    tasks = torch.arange(logits.shape[1], device=logits.device)
    above = (numbers[:, None] > tasks).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, above, reduction="none").sum(1).mean()


def class_probabilities(logits: Tensor) -> Tensor:
    """(N,K) of the logits (N,K-1) of ordered classes: differences of ``P(y > k)``.

    At its minimum the loss orders the biases, so that no difference is negative; until then, each is limited here to
    the one before it.
    """
    columns = list(torch.sigmoid(logits).split(1, 1))
    for k in range(1, len(columns)):  # cummin, which ONNX lacks
        columns[k] = torch.minimum(columns[k - 1], columns[k])
    above = torch.cat(columns, 1)
    ends = torch.ones_like(above[:, :1]), torch.zeros_like(above[:, :1])
    return torch.cat([ends[0], above], 1) - torch.cat([above, ends[1]], 1)


def distance(values: Tensor, wanted: Tensor, kind: Distance, delta: float = 1.0) -> Tensor:
    """Mean absolute (l1) or square (l2) error, or Huber's (1964): half the square up to ``delta``, then linear."""
    if kind == "l1":
        return F.l1_loss(values, wanted)
    return F.mse_loss(values, wanted) if kind == "l2" else F.huber_loss(values, wanted, delta=delta)


def predicted(labels: Labels, output: Tensor) -> dict[str, Tensor]:
    """The standard prediction of a last layer's output (N,outputs)."""
    output = output.float()
    if labels.kind == "one_of":
        return {"class_probability": torch.softmax(output, 1)}
    if labels.kind == "any_of":
        return {"label_probability": torch.sigmoid(output)}
    if labels.kind == "ordered":
        return {"class_probability": class_probabilities(output)}
    return {"value": output[:, 0]}


def of_classes(weights: Weights | None, labels: Labels, where: str) -> Tensor | None:
    """(K,) the factor of each class, 1 if none is named; None without any.

    Raises
    ------
    InputError
        for a name that no class has.
    """
    if weights is None:
        return None
    if not isinstance(weights, Mapping):
        return torch.full((len(labels),), float(weights))
    for name in weights:
        if name not in labels.names:
            hint = did_you_mean(name, labels.names) or f"classes: {', '.join(labels.names)}"
            raise InputError(f"'{where}' names '{name}', which is not a class", hint=hint)
    return torch.tensor([float(weights.get(name, 1.0)) for name in labels.names])


class LabelLoss(nn.Module):
    """The loss that the labels of the data block call for, on a volume operator's logits (B,outputs).

    Cross-entropy for ``one_of``, binary cross-entropy of each class for ``any_of``, CORAL's for ``ordered`` classes
    (:func:`coral`), and a distance for measurements. What is not known does not count.

    Parameters
    ----------
    weight:
        Factor for all classes, or for each by its name: for the true class or, with ``any_of``, for positive cases.
    kind:
        Distance for measurements.
    delta:
        Where Huber's distance becomes linear, in the unit of the labels.
    """

    label_kinds = ("one_of", "any_of", "ordered", "unit")
    weight: Tensor | None

    def __init__(
        self,
        weight: Weights | None = None,
        kind: Distance = "l1",
        delta: Positive = 1.0,
        labels: CaseLabels = None,
    ) -> None:
        super().__init__()
        self.labels: Labels = declared(labels, type(self).__name__)
        if weight is not None and self.labels.kind not in ("one_of", "any_of"):
            raise InputError(
                "weights are for classes that exclude each other, or for any_of", hint="leave 'weight' out"
            )
        self.register_buffer("weight", of_classes(weight, self.labels, "weight"), persistent=False)
        self.kind, self.delta = kind, delta

    def forward(self, prediction: Tensor, target: Tensor, **context: Any) -> Tensor:
        if self.labels.kind == "one_of":
            return cross_entropy(prediction, target, self.weight)
        if self.labels.kind == "any_of":
            return binary_per_class(prediction, target, self.weight)
        if self.labels.kind == "ordered":
            return coral(prediction, target)
        return distance(prediction[:, 0].float(), target.float(), self.kind, self.delta)


def declared(labels: Labels | None, who: str) -> Labels:
    """The labels of the data block; raises :class:`InputError` if it declares none."""
    if labels is None:
        raise InputError(f"'{who}' reads labels, and the data block declares none", hint="'labels' of the data block")
    return labels
