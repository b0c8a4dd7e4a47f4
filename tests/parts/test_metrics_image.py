"""Image metrics over cases and patients, and as the evaluator writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medkit.data.dataset import Dataset
from medkit.data.volume import Volume
from medkit.engine.runtime import Runtime
from medkit.evaluation.evaluate import MetricValue, Request, evaluate, stack
from medkit.objectives.restoration import Restoration
from medkit.parts.features import RANDOM
from medkit.parts.losses import L1
from medkit.parts.metrics_fid import FID
from medkit.parts.metrics_image import PSNR, RMSE
from medkit.parts.metrics_perceptual import PL
from medkit.protocols import Case, Record
from medkit.registry.marks import Placed


class Halfway(nn.Module):
    """A generator that shrinks every value to the middle of the window by a little."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 + 0.9 * (x - 0.5)


PATIENTS = tuple("aabcdefg")


class Pairs:
    """Seven patients, the first of whom has two cases; the last case has nothing in the window."""

    def cases(self) -> Sequence[Case]:
        return [Case(f"c{i}", patient, fold="test") for i, patient in enumerate(PATIENTS)]

    def load(self, case: Case) -> Record:
        number = int(case.id[1:])
        rng = np.random.default_rng(number)
        target = rng.random((2 + number % 4, 24, 24), dtype=np.float32)
        image = target if number == 7 else (target + rng.normal(0, 0.1, target.shape)).clip(0, 1).astype(np.float32)
        affine = np.diag([1.0, 1.0, 1.0, 1.0])
        return Record(Volume(image, affine), target=Volume(target, affine))

    def identity(self, case: Case) -> str:
        return case.id


def row(psnr_db: float, slices: int, patient: str, blank: int = 0) -> dict[str, Any]:
    """The row of a case whose slices all have one PSNR."""
    rng = np.random.default_rng(0)
    target = rng.random((slices + blank, 16, 16))
    image = target + 10 ** (-psnr_db / 20)
    image[slices:] = target[slices:]
    found = PSNR().per_case({"patient": patient, "image": image, "target": target, "output": image})
    assert found is not None
    return found


def test_the_mean_is_over_slices_whatever_case_they_are_in() -> None:
    rows = stack([row(20, 1, "a"), row(30, 3, "b")])
    assert PSNR().compute(rows) == pytest.approx((20 + 3 * 30) / 4, abs=1e-4)


def test_every_patient_counts_the_same_in_the_patient_mean() -> None:
    extras = PSNR().extras(stack([row(20, 1, "a"), row(26, 2, "a"), row(30, 7, "b")]))
    assert extras["patient_mean"] == pytest.approx(((20 + 2 * 26) / 3 + 30) / 2, abs=1e-4)
    assert extras["counted_patients"] == 2


def test_a_case_of_blank_slices_has_no_value_but_counts_in_the_plain_mean() -> None:
    metric = PSNR()
    rows = [row(20, 2, "a"), row(20, 0, "b", blank=2)]
    assert np.isnan(metric.score(rows[1]))
    assert metric.compute(stack(rows)) == pytest.approx(20, abs=1e-4)
    extras = metric.extras(stack(rows))
    assert extras["plain"] == pytest.approx(60, abs=1e-3)
    assert (extras["counted_slices"], extras["blank_slices"]) == (2, 2)
    assert (extras["patient_mean"], extras["counted_patients"]) == (pytest.approx(20, abs=1e-4), 1)


def test_a_number_that_is_undefined_is_null_in_the_results() -> None:
    nan = float("nan")
    written = MetricValue(nan, nan, nan, 1, 0, extras={"input": nan, "blank_slices": 2.0}).json()
    assert (written["value"], written["input"], written["blank_slices"]) == (None, None, 2.0)


def test_blank_slices_alone_leave_a_metric_undefined() -> None:
    assert np.isnan(PSNR().compute(stack([row(20, 0, "a", blank=2)])))


@pytest.fixture(scope="module")
def evaluation() -> Any:
    dataset = Dataset(Pairs(), {"test": {"fold": "test"}})
    metrics = [PSNR(), RMSE(80), PL(RANDOM), FID(RANDOM)]
    objective = Restoration(Halfway(), {"l1": Placed(L1(), {"weight": 1.0})})
    request = Request(dataset, dataset.cases("test"), metrics, "denoise", "test", "patch")
    return evaluate(objective, request, Runtime(torch.device("cpu")))


@pytest.mark.parametrize("name", ["psnr", "rmse_hu", "pl_random", "fid_random"])
def test_results_carry_the_input_s_own_value_and_the_blank_slices(evaluation: Any, name: str) -> None:
    written = evaluation.values[name].json()
    assert written["input"] != pytest.approx(written["value"])
    assert (written["counted_slices"], written["blank_slices"]) == (23, 5)
    assert written["low"] <= written["value"] <= written["high"]


def test_the_interval_of_fid_is_its_own(evaluation: Any) -> None:
    dataset = Dataset(Pairs(), {"test": {"fold": "test"}})
    metric = FID(RANDOM)
    given = []
    for case in dataset.cases("test"):
        sample = dataset.sample(case)
        assert sample.target is not None
        output = (0.5 + 0.9 * (sample.image - 0.5)).clip(0, 1)
        given.append({"image": sample.image, "target": sample.target, "output": output})
    rows = stack([metric.per_case(item) for item in given])
    low, high = metric.interval(rows, PATIENTS)
    assert evaluation.values["fid_random"].low == pytest.approx(low, abs=1e-6)
    assert evaluation.values["fid_random"].high == pytest.approx(high, abs=1e-6)


def test_a_case_without_a_value_has_an_empty_cell(evaluation: Any) -> None:
    assert [("psnr" in line, "fid_random" in line) for line in evaluation.cases] == [(True, False)] * 7 + [
        (False, False)
    ]
