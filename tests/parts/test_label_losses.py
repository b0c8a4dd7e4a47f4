"""Losses of declared labels, by hand; and who takes which labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import binary_cross_entropy, cross_entropy

from medkit.errors import InputError
from medkit.parts.label_heads import Classification, Multilabel, Ordinal, Regression
from medkit.parts.label_losses import LabelLoss, binary_per_class, class_probabilities, coral
from medkit.protocols.labels import Labels
from medkit.registry.build import build

ONE = Labels("one_of", ("a", "b", "c"), ("a", "b", "c"))
ANY = Labels("any_of", ("a", "b"), ("a", "b"), column="x")
ORDERED = Labels("ordered", ("a", "b", "c"), ("a", "b", "c"))
MM = Labels("unit", unit="mm")


def test_a_class_that_is_not_known_has_no_loss_and_no_gradient() -> None:
    logits = torch.tensor([[0.3, -1.0], [2.0, 0.5]], requires_grad=True)
    flags = torch.tensor([[1.0, torch.nan], [0.0, 1.0]])
    loss = binary_per_class(logits, flags)
    p = torch.sigmoid(logits.detach())
    by_hand = -(p[0, 0].log() + (1 - p[1, 0]).log() + p[1, 1].log()) / 4
    assert loss.item() == pytest.approx(by_hand.item())
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0
    assert torch.isfinite(logits.grad).all()


def test_coral_is_the_cross_entropy_of_its_binary_tasks() -> None:
    logits, numbers = torch.tensor([[1.0, -1.0], [0.5, 0.2], [2.0, 1.5]]), torch.tensor([0.0, 1.0, 2.0])
    tasks = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    wanted = binary_cross_entropy(torch.sigmoid(logits), tasks, reduction="none").sum(1).mean()
    assert coral(logits, numbers).item() == pytest.approx(wanted.item())


def test_probabilities_of_ordered_classes_are_never_negative() -> None:
    found = class_probabilities(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    assert found.sum(1).tolist() == pytest.approx([1, 1])
    assert (found >= 0).all()
    above = torch.sigmoid(torch.tensor([1.0, -1.0])).tolist()
    assert found[0].tolist() == pytest.approx([1 - above[0], above[0] - above[1], above[1]])


def test_ordered_classes_share_their_weights() -> None:
    head = Ordinal((4, 8), labels=ORDERED)
    assert sum(p.numel() for p in head.parameters()) == 8 + 2


def test_weights_are_those_of_the_named_classes() -> None:
    logits, numbers = torch.randn(4, 3), torch.tensor([0.0, 1.0, 1.0, 2.0])
    each = cross_entropy(logits, numbers.long(), reduction="none")
    wanted = (each * torch.tensor([1.0, 5.0, 5.0, 1.0])).mean()
    found = Classification((8,), weight={"b": 5}, labels=ONE).loss(logits, numbers)["ce"]
    assert found.item() == pytest.approx(wanted.item())
    with pytest.raises(InputError, match="names 'bb', which is not a class; did you mean 'b'"):
        Multilabel((8,), positive_weight={"bb": 5}, labels=ANY)


def test_an_untrained_regression_says_about_its_start() -> None:
    head = Regression((8,), start=100, scale=2, labels=MM)
    assert (head([torch.zeros(3, 8, 2, 2)]) == 100).all()
    assert head.unit == "mm"


@pytest.mark.parametrize(("labels", "outputs"), [(ONE, 3), (ANY, 2), (ORDERED, 2), (MM, 1)])
def test_volumes_get_the_outputs_of_their_labels(labels: Labels, outputs: int) -> None:
    operator = build("operator", "smartnet:lstm_classifier", channels=(4, 8), hidden=8, labels=labels)
    logits = operator(torch.randn(2, 3, 8), torch.tensor([3, 2]))
    assert logits.shape == (2, outputs)
    target = torch.ones(2, 2) if labels is ANY else torch.ones(2)
    assert torch.isfinite(LabelLoss(labels=labels)(logits, target))


@pytest.mark.parametrize(
    ("head", "labels"), [(Classification, ANY), (Multilabel, ONE), (Ordinal, MM), (Regression, ONE)]
)
def test_a_head_of_other_labels_is_refused(head: Any, labels: Labels) -> None:
    with pytest.raises(InputError, match="does not take"):
        head((8,), labels=labels)
