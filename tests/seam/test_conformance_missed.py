"""Mistakes that pass a glance: each is caught by the check of its kind, with a sentence that names it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medkit.api import Batch, Case, Channels, Placed, Record, Turn
from medkit.data.volume import Volume
from medkit.objectives.multitask import Multitask
from medkit.objectives.restoration import Restoration
from medkit.objectives.volume import VolumeTask
from medkit.parts.losses import L1
from medkit.registry.plugins import registry
from medkit.testing import check_component, check_loss, check_objective, check_pretext, check_source


class Head(nn.Module):
    """Which of four?"""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.layer = nn.Linear(channels[-1], 4)

    def view(self, batch: Batch) -> Any:
        return batch["image"], torch.zeros(len(batch["image"]), dtype=torch.long)

    def forward(self, features: Any) -> Any:
        return self.layer(features[-1].mean((2, 3)))

    def loss(self, output: Any, target: Any) -> Any:
        return {"ce": F.cross_entropy(output, target)}


class Graph(Head):
    """Its target is trained too."""

    def view(self, batch: Batch) -> Any:
        return batch["image"], self.layer(batch["image"].flatten(1)[:, : self.layer.in_features])

    def loss(self, output: Any, target: Any) -> Any:
        return {"mse": F.mse_loss(output, target)}


class NestedGraph(Graph):
    """The same, among several targets."""

    def view(self, batch: Batch) -> Any:
        view, target = super().view(batch)
        return view, {"one": [target]}

    def loss(self, output: Any, target: Any) -> Any:
        return super().loss(output, target["one"][0])


class InPlace(Head):
    """Changes the image that all heads see."""

    def view(self, batch: Batch) -> Any:
        batch["image"].mul_(0.5)
        return super().view(batch)


class NewKey(Head):
    """Leaves something of its own in the batch."""

    def view(self, batch: Batch) -> Any:
        batch["mine"] = 1
        return super().view(batch)


class Wide(Head):
    """A probability of four columns."""

    def predict(self, output: Any) -> Any:
        return {"probability": output.sigmoid()}


class Misspelt(Head):
    """A prediction that nothing evaluates."""

    def predict(self, output: Any) -> Any:
        return {"probabilities": output.sigmoid()[:, 0]}


class NoSum(Head):
    """Class probabilities without a softmax over classes."""

    def predict(self, output: Any) -> Any:
        return {"class_probability": output.sigmoid()}


class OneLoss(Head):
    """Returns a tensor where a dictionary is wanted."""

    def loss(self, output: Any, target: Any) -> Any:
        return F.cross_entropy(output, target)


class FixedChannels(Head):
    """Takes it that the encoder is a ResNet-18."""

    def __init__(self, channels: Channels) -> None:
        super().__init__(channels)
        self.layer = nn.Linear(512, 4)


class PythonDice(Head):
    """Draws in forward from Python's generator."""

    def forward(self, features: Any) -> Any:
        return super().forward(features) + random.random()


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (Graph, "with a graph"),
        (NestedGraph, "with a graph"),
        (InPlace, "changes the batch"),
        (NewKey, "changes the batch"),
        (Wide, r"'probability' is \(3, 4\), not \(N\)"),
        (Misspelt, "not a standard prediction.*did you mean '(class_)?probability'"),
        (NoSum, "does not sum to 1"),
        (OneLoss, "must return a dictionary, not a Tensor"),
        (FixedChannels, r"forward\(\) fails on a pyramid of the channels it was given"),
        (PythonDice, "draws from Python's or numpy's generator"),
    ],
)
def test_a_head_s_mistake_is_named(head: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_pretext(head)


def test_a_head_of_three_methods_passes() -> None:
    check_pretext(Head)


class NeedsPositives(L1):
    """Divides by the positives."""

    def forward(self, prediction: Any, target: Any, **context: Any) -> Any:
        return ((1 - prediction.sigmoid()) * target).sum() / target.sum()


class UpsideDown(L1):
    """Grows with agreement."""

    def forward(self, prediction: Any, target: Any, **context: Any) -> Any:
        return -super().forward(prediction, target)


class Dice(L1):
    """Draws from numpy's generator."""

    def forward(self, prediction: Any, target: Any, **context: Any) -> Any:
        return super().forward(prediction, target) * (1 + np.random.rand())


class Growing(L1):
    """Remembers how often it was asked."""

    asked = 0

    def forward(self, prediction: Any, target: Any, **context: Any) -> Any:
        self.asked += 1
        return super().forward(prediction, target) * self.asked


class NoContext(L1):
    """Takes nothing beyond what it needs."""

    def forward(self, prediction: Any, target: Any) -> Any:
        return super().forward(prediction, target)


class Writes(L1):
    """Scales its target in place."""

    def forward(self, prediction: Any, target: Any, **context: Any) -> Any:
        target.mul_(0.5)
        return super().forward(prediction, target)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (NeedsPositives, "where nothing is positive the loss is nan"),
        (UpsideDown, "upside down"),
        (Dice, "draws from Python's or numpy's generator"),
        (Growing, "differs for the same arguments"),
        (NoContext, r"has no \*\*context"),
        (Writes, "changes its arguments|differs for the same"),
    ],
)
def test_a_loss_s_mistake_is_named(loss: Any, message: str) -> None:
    np.random.seed(0)
    np.random.rand()  # numpy's 624 words now stand still for a while: only its position tells of a draw
    with pytest.raises(AssertionError, match=message):
        check_loss(loss)


def encoder() -> Any:
    torch.manual_seed(1)
    return registry().resolve("encoder", "timm").load()(model="test_resnet")


def placed(part: Any, **keys: Any) -> Placed:
    return Placed(part, {"weight": 1.0, **keys})


def heads(kind: Any) -> dict[str, Any]:
    made = encoder()
    torch.manual_seed(2)
    return {"encoder": made, "heads": {"one": placed(kind(channels=made.channels))}}


class Restored(nn.Module):
    """One convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Any) -> Any:
        return self.layer(x)


def test_medkit_s_own_objectives_pass() -> None:
    check_objective(Multitask, **heads(Head))
    losses = {"l1": placed(L1())}
    check_objective(Restoration, generator=Restored(), losses=losses)
    made = encoder()
    operator = registry().resolve("operator", "conv3d_segmenter").load()(channels=made.channels, strides=made.strides)
    check_objective(VolumeTask, encoder=made, operator=operator, losses={"bce": losses["l1"]})


class Memory(Restoration):
    """Its loss depends on a number that no checkpoint holds."""

    asked = 0

    def losses(self, turn: str, batch: Batch) -> Any:
        self.asked += 1
        return {name: value * self.asked for name, value in super().losses(turn, batch).items()}


class Detached(Restoration):
    """A loss without a graph."""

    def losses(self, turn: str, batch: Batch) -> Any:
        return {name: value.detach() for name, value in super().losses(turn, batch).items()}


class Vector(Restoration):
    """Forgets to reduce."""

    def losses(self, turn: str, batch: Batch) -> Any:
        return {"l1": self.generator(batch["image"]).abs()}


class Stranger(Restoration):
    """Trains a part that it does not name."""

    def turns(self) -> Any:
        return [Turn("train", ("network",))]


class Idle(Restoration):
    """Trains nothing of the part that its turn names."""

    def parts(self) -> Any:
        return {"generator": nn.Linear(2, 2)}

    def losses(self, turn: str, batch: Batch) -> Any:
        return {"l1": self.generator(batch["image"]).mean()}


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Memory, "what else does it remember"),
        (Detached, "has no graph"),
        (Vector, "is not a scalar"),
        (Stranger, "trains 'network', which parts"),
        (Idle, "does not change any weight"),
    ],
)
def test_an_objective_s_mistake_is_named(objective: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_objective(objective, generator=Restored(), losses={"l1": placed(L1())})


def test_an_objective_without_methods_is_named() -> None:
    class Empty(nn.Module):
        """Nothing."""

        def __init__(self) -> None:
            super().__init__()

    for kind in ("objective", "optimizer", "schedule", "clip", "tracker"):
        with pytest.raises(AssertionError, match=r"has no (method|attribute)|has none of|torch.nn.Module"):
            check_component(kind, Empty)


class Sevens:
    """A mask of sevens, or voxels that are no numbers."""

    def __init__(self, value: int = 7, voxel: float = 1.0) -> None:
        self.value, self.voxel = value, voxel

    def cases(self) -> list[Case]:
        return [Case("a", "p")]

    def load(self, case: Case) -> Record:
        voxels = np.full((2, 4, 4), self.voxel, np.float32)
        mask = np.full((2, 4, 4), self.value, np.uint8)
        return Record(Volume(voxels, np.eye(4)), Volume(mask, np.eye(4)))

    def identity(self, case: Case) -> str:
        return case.id


def test_a_mask_of_sevens_and_voxels_that_are_no_numbers_are_named() -> None:
    check_source(Sevens(1))
    with pytest.raises(AssertionError, match="a mask holds 0 and 1, not \\[7\\]"):
        check_source(Sevens())
    with pytest.raises(AssertionError, match="not finite"):
        check_source(Sevens(1, float("nan")))


class Meddler:
    """Changes what it is told."""

    def epoch_ended(self, event: Any) -> None:
        event.metrics.clear()


def test_a_tracker_that_changes_an_event_is_found() -> None:
    with pytest.raises(AssertionError, match=r"epoch_ended\(\) changes the event"):
        check_component("tracker", Meddler)
