"""Each check of a loss, metric, source or transform finds its fault: a sound one passes, a broken promise is named."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from medkit.data.volume import Volume
from medkit.protocols import Case, Record
from medkit.testing import (
    check_component,
    check_loss,
    check_metric,
    check_source,
    check_transform,
)


class SoundMetric:
    """Share of right decisions."""

    name, unit, higher_is_better, empty = "right", "", True, "none"

    def per_case(self, case):
        return {"right": float((case["probability"] > 0.5) == case["label"])}

    def compute(self, rows):
        return float(np.mean(rows["right"]))

    def score(self, row):
        return row["right"]


class SoundSource:
    """Two small volumes."""

    def __init__(self) -> None:
        self.made = 0

    def cases(self):
        return [Case("a", "p"), Case("b", "q")]

    def load(self, case):
        image = Volume(np.full((2, 4, 4), len(case.id), np.int16))
        return Record(image, image.like(np.zeros((2, 4, 4), np.uint8)))

    def identity(self, case):
        return case.id


class SoundTransform:
    """Half the size."""

    def apply(self, arrays):
        return {key: array[:, ::2, ::2] for key, array in arrays.items()}

    def restore(self, array, shape):
        return array.repeat(2, 1).repeat(2, 2)[:, : shape[0], : shape[1]]


@pytest.mark.parametrize(
    ("kind", "component"),
    [
        ("metric", SoundMetric),
        ("source", SoundSource),
        ("transform", SoundTransform),
    ],
)
def test_a_sound_component_passes(kind, component):
    check_component(kind, component)


class MapLoss(nn.Module):
    """Forgets to reduce."""

    def forward(self, prediction, target, **context):
        return (prediction - target).abs()


class HardLoss(nn.Module):
    """Counts decisions, which has no gradient."""

    def forward(self, prediction, target, **context):
        return ((prediction > 0) != (target > 0)).float().mean()


class RootLoss(nn.Module):
    """A root without an epsilon."""

    def forward(self, prediction, target, **context):
        return (prediction - prediction).square().sum().sqrt()


@pytest.mark.parametrize(
    ("loss", "message"),
    [(MapLoss, "scalar"), (HardLoss, "no gradient reaches"), (RootLoss, "gradient is not finite")],
)
def test_a_broken_loss_is_told_what_it_breaks(loss, message):
    with pytest.raises(AssertionError, match=message):
        check_loss(loss)


class RulelessMetric(SoundMetric):
    """Does not say which cases are empty."""

    empty = ""


class ArrayMetric(SoundMetric):
    """Returns an array."""

    def compute(self, rows):
        return np.asarray(rows["right"])


class EmptyMetric(SoundMetric):
    """Finds every case empty."""

    def per_case(self, case):
        return None


class ScorelessMetric(SoundMetric):
    """Has None for a score."""

    def score(self, row):
        return None


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (RulelessMetric, "which cases are left out"),
        (ArrayMetric, "not a ndarray"),
        (EmptyMetric, "every one of these cases is empty"),
        (ScorelessMetric, r"score\(\)"),
    ],
)
def test_a_broken_metric_is_told_what_it_breaks(metric, message):
    with pytest.raises(AssertionError, match=message):
        check_metric(metric)


class TwinSource(SoundSource):
    """Two cases of one name."""

    def cases(self):
        return [Case("a", "p"), Case("a", "q")]


class PatientlessSource(SoundSource):
    """No patients."""

    def cases(self):
        return [Case("a", "")]


class RestlessSource(SoundSource):
    """Another image each time."""

    def load(self, case):
        self.made += 1
        return Record(Volume(np.full((2, 4, 4), self.made, np.int16)))


class ShiftedSource(SoundSource):
    """A mask on another grid."""

    def load(self, case):
        record = super().load(case)
        affine = np.eye(4)
        affine[0, 3] = 5
        return Record(record.image, Volume(record.mask.voxels, affine))


class ConstantSource(SoundSource):
    """One identity for all."""

    def identity(self, case):
        return "same"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (TwinSource, "share an id"),
        (PatientlessSource, "no patient"),
        (RestlessSource, "different voxels"),
        (ShiftedSource, "another grid"),
        (ConstantSource, "share an identity"),
    ],
)
def test_a_broken_source_is_told_what_it_breaks(source, message):
    with pytest.raises(AssertionError, match=message):
        check_source(source())


class NoisyTransform(SoundTransform):
    """Random."""

    def apply(self, arrays):
        return {k: v + (np.random.randint(9) if k == "image" else 0) for k, v in arrays.items()}


class ImageOnly(SoundTransform):
    """Leaves the mask as it was."""

    def apply(self, arrays):
        return {**arrays, "image": arrays["image"][:, ::2, ::2]}


class Dropping(SoundTransform):
    """Drops a slice."""

    def apply(self, arrays):
        return {key: array[1:] for key, array in arrays.items()}


class OneWay(SoundTransform):
    """Cannot go back."""

    def restore(self, array, shape):
        return array


class Interpolating(SoundTransform):
    """Blurs the mask."""

    def apply(self, arrays):
        return {key: array * 2 for key, array in arrays.items()}


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (NoisyTransform, "deterministic"),
        (ImageOnly, "different shapes"),
        (Dropping, "number of slices"),
        (OneWay, r"restore\(\)"),
        (Interpolating, "no longer 0 and 1"),
    ],
)
def test_a_broken_transform_is_told_what_it_breaks(transform, message):
    np.random.seed(0)
    with pytest.raises(AssertionError, match=message):
        check_transform(transform())


class Unexplained:
    """Has no form and no reason."""

    def cpu(self):
        raise NotImplementedError

    def device(self):
        raise NotImplementedError


class Formless:
    """Has no form, with a reason."""

    def cpu(self):
        raise NotImplementedError("not written")

    device = cpu


@pytest.mark.parametrize(("augmentation", "message"), [(Unexplained, "without saying why"), (Formless, "needs a form")])
def test_a_broken_augmentation_is_told_what_it_breaks(augmentation, message):
    with pytest.raises(AssertionError, match=message):
        check_component("transform", augmentation)
