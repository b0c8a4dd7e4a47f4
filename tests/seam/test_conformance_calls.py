"""What a component may not do when it is called is found by its check: change inputs, keep graphs, return random output."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from seam.test_conformance_broken import (
    SoundDiscriminator,
    SoundEncoder,
    SoundGenerator,
    SoundHead,
    SoundOperator,
)
from seam.test_conformance_broken_data import SoundMetric, SoundSource, SoundTransform

from medkit.errors import InputError
from medkit.registry.promises import check_promises
from medkit.testing import (
    check_discriminator,
    check_encoder,
    check_generator,
    check_metric,
    check_operator,
    check_pretext,
    check_source,
    check_transform,
)


class Halving(SoundEncoder):
    """Changes the image."""

    def forward(self, x: Any) -> Any:
        return super().forward(x.mul_(0.5))


class Noisy(SoundEncoder):
    """Adds noise, also when it predicts."""

    def forward(self, x: Any) -> Any:
        return [m + torch.rand_like(m) for m in super().forward(x)]


class HalfPrecision(SoundEncoder):
    """Rounds its maps."""

    def forward(self, x: Any) -> Any:
        return [m.half() for m in super().forward(x)]


class Keeping(SoundEncoder):
    """Keeps its maps."""

    def forward(self, x: Any) -> Any:
        self.last = super().forward(x)
        return self.last


class Centred(SoundEncoder):
    """Subtracts the mean of the batch."""

    def forward(self, x: Any) -> Any:
        return [m - m.mean(0, keepdim=True) for m in super().forward(x)]


class Seeding(SoundEncoder):
    """Seeds torch."""

    def forward(self, x: Any) -> Any:
        torch.manual_seed(0)
        return super().forward(x)


class NoNumbers(SoundEncoder):
    """Divides by zero."""

    def forward(self, x: Any) -> Any:
        return [m / 0 for m in super().forward(x)]


class Mapped(SoundEncoder):
    """Names its maps."""

    def forward(self, x: Any) -> Any:
        return dict(enumerate(super().forward(x)))


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (Halving, "changes its input"),
        (Noisy, "in evaluation mode the output is random"),
        (HalfPrecision, "a map is torch.float16, but the image is torch.float32"),
        (Keeping, "'last' keeps a tensor with its graph"),
        (Centred, "depends on the others in its batch"),
        (Seeding, "sets torch's seed"),
        (NoNumbers, "a map is not finite"),
        (Mapped, "must return a list of maps (N,C,H,W), not dict"),
    ],
)
def test_an_encoder_that_does_what_a_call_may_not_is_told_so(encoder: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(message)):
        check_encoder(encoder)


class ScalingLoss(SoundHead):
    """Doubles the output."""

    def loss(self, output: Any, target: Any) -> Any:
        output.data.mul_(2)
        return super().loss(output, target)


class Guessing(SoundHead):
    """Predicts at random."""

    def predict(self, output: Any) -> Any:
        return {"probability": torch.rand(len(output))}


class Undefined(SoundHead):
    """Predicts NaN."""

    def predict(self, output: Any) -> Any:
        return {"value": torch.full((len(output),), torch.nan)}


class Arrays(SoundHead):
    """Predicts arrays."""

    def predict(self, output: Any) -> Any:
        return {"value": np.zeros(len(output))}


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (ScalingLoss, "loss() changes the output or the target"),
        (Guessing, "predict() gives different results for the same output"),
        (Undefined, "prediction 'value' is not finite"),
        (Arrays, "prediction 'value' must be a tensor, not a ndarray"),
    ],
)
def test_a_head_that_does_what_a_call_may_not_is_told_so(head: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(message)):
        check_pretext(head)


class Adding(SoundGenerator):
    """Changes the image."""

    def forward(self, x: Any) -> Any:
        x += 1
        return super().forward(x)


class Sampling(SoundGenerator):
    """Samples."""

    def forward(self, x: Any) -> Any:
        return super().forward(x) + torch.rand_like(x)


class Marking(SoundDiscriminator):
    """Changes the image."""

    def forward(self, x: Any) -> Any:
        return super().forward(x.mul_(0.5))


class Scaling(SoundOperator):
    """Changes the features."""

    def forward(self, features: Any, lengths: Any) -> Any:
        features.data.mul_(0.5)
        return super().forward(features, lengths)


@pytest.mark.parametrize(
    ("check", "network", "message"),
    [
        (check_generator, Adding, "changes its input"),
        (check_generator, Sampling, "in evaluation mode the output is random"),
        (check_discriminator, Marking, "changes its input"),
        (check_operator, Scaling, "changes its input"),
    ],
)
def test_a_network_that_does_what_a_call_may_not_is_told_so(check: Any, network: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check(network)


class Emptied(SoundTransform):
    """Makes NaN."""

    def apply(self, arrays: Any) -> Any:
        return {key: array * np.float32("nan") for key, array in super().apply(arrays).items()}


class InPlace(SoundTransform):
    """Changes the voxels it was given."""

    def apply(self, arrays: Any) -> Any:
        arrays["image"] //= 2
        return super().apply(arrays)


class Objects(SoundTransform):
    """Makes Python objects."""

    def apply(self, arrays: Any) -> Any:
        return {key: array.astype(object) for key, array in super().apply(arrays).items()}


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (Emptied, "the image is not finite afterwards"),
        (InPlace, "changes the voxels it was given"),
        (Objects, "the image holds object afterwards, not numbers"),
    ],
)
def test_a_transform_that_spoils_arrays_is_told_so(transform: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_transform(transform())


class Reordering(SoundSource):
    """Reverses the order of its cases every time."""

    def cases(self) -> Any:
        self.made += 1
        return super().cases()[:: 1 if self.made % 2 else -1]


class LastMissing(SoundSource):
    """Cannot load its last case."""

    def load(self, case: Any) -> Any:
        if case.id == "b":
            raise FileNotFoundError("b.nii.gz")
        return super().load(case)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Reordering, "gives other cases, or another order"),
        (LastMissing, "the last case cannot be loaded: FileNotFoundError: b.nii.gz"),
    ],
)
def test_a_source_that_is_not_the_same_twice_or_cannot_be_read_is_told_so(source: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_source(source())


class Infinite(SoundMetric):
    """Divides by zero."""

    def compute(self, rows: Any) -> Any:
        return float("inf")


class Bare(SoundMetric):
    """Keeps a number in place of a row."""

    def per_case(self, case: Any) -> Any:
        return 3.0


class Unitless(SoundMetric):
    """Has no unit."""

    unit: Any = None


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (Infinite, "compute() gives inf: return nan for an undefined number"),
        (Bare, "per_case() must return a dictionary, or None, not a float"),
        (Unitless, "has a 'unit' that is None, not str"),
    ],
)
def test_a_metric_whose_answers_cannot_be_used_is_told_so(metric: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(message)):
        check_metric(metric)


def test_a_method_that_is_none_is_no_method() -> None:
    metric: Any = SoundMetric()
    metric.score = None
    with pytest.raises(InputError, match="has a 'score' that is None, not a method"):
        check_promises(metric, "metric", "Right")
