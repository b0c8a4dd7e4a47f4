"""An evaluation keeps numbers of its cases, none of their images: its memory does not grow with them."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medkit.data.dataset import Dataset, Sample
from medkit.data.volume import Volume
from medkit.engine.runtime import Runtime
from medkit.evaluation.evaluate import Request, evaluate
from medkit.protocols import Case, Record

SIDE, DEPTH = 64, 4


class Many:
    """Cases of four slices, half of them with a positive mask."""

    def __init__(self, count: int) -> None:
        self.count = count

    def cases(self) -> Sequence[Case]:
        return [Case(f"c{i}", f"p{i}", fold="test") for i in range(self.count)]

    def load(self, case: Case) -> Record:
        number = int(case.id[1:])
        voxels = np.random.default_rng(number).random((DEPTH, SIDE, SIDE), np.float32)
        mask = np.zeros(voxels.shape, np.uint8)
        mask[1, :2, :2] = number % 2
        return Record(*(Volume(array, np.diag([5.0, 1, 1, 1])) for array in (voxels, mask)))

    def identity(self, case: Case) -> str:
        return case.id


class Threshold(nn.Module):
    """Predicts what is bright."""

    def parts(self) -> dict[str, nn.Module]:
        return {}

    def predict(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"mask_probability": batch["image"].clamp(0, 1)}


def samples() -> list[Sample]:
    return [one for one in gc.get_objects() if type(one) is Sample]


class Alive:
    """A metric that counts the prepared cases, and the bytes of large arrays, that are in memory when it is asked."""

    name, unit, higher_is_better, empty = "alive", "", True, "none"

    def __init__(self) -> None:
        gc.collect()
        self.others = samples()  # what other tests of this process keep
        self.samples, self.arrays = 0, 0

    def per_case(self, case: Any) -> dict[str, Any]:
        self.samples = max(self.samples, len(samples()) - len(self.others))
        predicted = case["mask_probability"]
        return {"first": predicted[0, 0, 0], "row": predicted[0, 0, :3]}  # views of a large array

    def compute(self, rows: Any) -> float:
        self.arrays = sum(column.nbytes if column.base is None else column.base.nbytes for column in rows.values())
        return float(rows["first"].mean())

    def score(self, row: Any) -> float:
        return float(row["first"])


@pytest.mark.parametrize("count", [6, 24])
def test_three_cases_are_in_memory_however_many_are_evaluated(tmp_path: Path, count: int) -> None:
    alive = Alive()
    dataset = Dataset(Many(count), {"test": {"fold": "test"}}, cache_dir=tmp_path)
    request = Request(dataset, dataset.cases("test"), [alive], "s", "test", "volume", intervals=False, examples=2)
    found = evaluate(Threshold(), request, Runtime(torch.device("cpu")))
    assert found is not None
    assert (len(found.cases), len(found.examples)) == (count, 2)
    assert 1 <= alive.samples <= 3
    assert alive.arrays == count * 4 * 4  # four numbers of four bytes a case
