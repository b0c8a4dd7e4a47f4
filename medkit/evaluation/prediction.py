"""What a stage predicts for a case, by its network or by a separate program, and cases that are read ahead of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from medkit.data.collate import whole
from medkit.data.dataset import Dataset, Sample
from medkit.engine.step import to_device
from medkit.evaluation.embeddings import Embedded
from medkit.evaluation.items import as_predicted
from medkit.evaluation.ready import ready
from medkit.protocols import Batch, Case

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class CasePrediction:
    """What was predicted for one case.

    Attributes
    ----------
    sample:
        The prepared case.
    arrays:
        Standard predictions, as a network makes them from prepared slices: maps (D,1,H,W).
    on_source:
        (D,h,w) probability of the mask on the source grid, if a separate program has made it there.
    features:
        (N,C) averages of the encoder's deepest map, one array per pass, if they are wanted for this case.
    """

    sample: Sample
    arrays: Mapping[str, np.ndarray]
    on_source: np.ndarray | None = None
    features: Sequence[np.ndarray] = ()


@dataclass(frozen=True)
class Loaded:
    """A case ready to be predicted; ``batch`` is empty if no network takes it."""

    sample: Sample
    batch: Batch


class Predictor(Protocol):
    """Predicts cases one after another; ``load`` may run in another thread, ahead of ``predict``."""

    objective: Any

    def load(self, case: Case) -> Loaded: ...

    def predict(self, loaded: Loaded) -> CasePrediction: ...


class ByNetwork:
    """Predicts with an objective, prepared for that on the first of all cases.

    On several ranks each looks at that same case, whichever its own are: all predict as a single rank would.
    """

    def __init__(self, objective: Any, dataset: Dataset, first: Case, device: torch.device, embedded: Embedded) -> None:
        self.dataset, self.device, self.embedded = dataset, device, embedded
        self.objective = ready(objective, to_device(self.load(first).batch, device), device)

    def load(self, case: Case) -> Loaded:
        sample = self.dataset.sample(case)
        _ = sample.native_mask  # unpacked here, ahead of the network
        return Loaded(sample, whole(sample, self.dataset.fields))

    def predict(self, loaded: Loaded) -> CasePrediction:
        batch = to_device(loaded.batch, self.device)
        with self.embedded.watching(self.objective, loaded.sample.case) as features, torch.inference_mode():
            predicted = self.objective.predict(batch)
        arrays = {name: value.float().cpu().numpy() for name, value in predicted.items()}
        return CasePrediction(loaded.sample, arrays, features=features)


class ByFeatures:
    """Predicts with an objective that takes features of its encoder, which have been computed before."""

    def __init__(
        self, objective: Any, features: Callable[[Case], np.ndarray], dataset: Dataset, device: torch.device
    ) -> None:
        self.objective, self.features, self.dataset, self.device = objective, features, dataset, device

    def load(self, case: Case) -> Loaded:
        sample = self.dataset.sample(case)
        _ = sample.native_mask
        features = torch.from_numpy(np.array(self.features(case)))
        return Loaded(sample, {**whole(sample, self.dataset.fields), "features": features})

    def predict(self, loaded: Loaded) -> CasePrediction:
        features = loaded.batch["features"]
        with torch.inference_mode():
            predicted = self.objective.predict(to_device(loaded.batch, self.device))
        arrays = {name: value.float().cpu().numpy() for name, value in predicted.items()}
        return CasePrediction(loaded.sample, arrays, features=[features.numpy()] if features.ndim == 2 else [])


class ByProgram:
    """Passes on what an external program has predicted: ``predicted`` gives a case's arrays on the source grid."""

    def __init__(self, objective: Any, predicted: Callable[[Case], Mapping[str, np.ndarray]], dataset: Dataset) -> None:
        self.objective, self.predicted, self.dataset = objective, predicted, dataset

    def load(self, case: Case) -> Loaded:
        return Loaded(self.dataset.sample(case), {})

    def predict(self, loaded: Loaded) -> CasePrediction:
        on_source = self.predicted(loaded.sample.case)
        return CasePrediction(loaded.sample, as_predicted(loaded.sample, on_source), on_source.get("mask_probability"))


def ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """What ``make`` makes of each item, in order; the next one is made while the caller works on this one."""
    with ThreadPoolExecutor(1, "ahead") as pool:
        coming: Future[Made] | None = None
        for item in items:
            made, coming = coming, pool.submit(make, item)
            if made is not None:
                yield made.result()
        if coming is not None:
            yield coming.result()
