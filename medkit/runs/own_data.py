"""What a trained stage is worth on the very cases that it was trained on, beside the best answer that looks at no
image: a stage that does not beat that has learned nothing, or cannot be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medkit.data.fractions import draw
from medkit.engine.progress import Progress
from medkit.evaluation import files
from medkit.evaluation.evaluate import Evaluation, Request, evaluate
from medkit.protocols import Batch, Case
from medkit.runs.folder import RunFolder
from medkit.runs.stage_key import is_external
from medkit.runs.stage_trainer import StageTrainer
from medkit.runs.workbench import Workbench

FILE = "own_data.json"
Shapes = Mapping[str, torch.Size]


@dataclass(frozen=True)
class OwnData:
    """A metric on training cases, with its 95 % interval over ``n_patients``, and the best ``trivial`` answer's."""

    metric: str
    value: float
    trivial: float
    low: float = float("nan")
    high: float = float("nan")
    n_patients: int = 0
    unit: str = ""
    higher_is_better: bool = True

    @property
    def beaten(self) -> bool:
        """Whether the trivial answer is beaten by more than chance, if there is an interval to tell."""
        worst = self.low if self.higher_is_better else self.high
        shown = self.value if np.isnan(worst) else worst
        return shown > self.trivial if self.higher_is_better else shown < self.trivial

    @property
    def told(self) -> str:
        """The two numbers in words."""
        interval = "" if np.isnan(self.low) else f" [{self.low:.4g}, {self.high:.4g}]"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.metric} {self.value:.4g}{interval}{unit}, and {self.trivial:.4g} without looking at any image"

    def json(self) -> dict[str, Any]:
        return {name: None if value != value else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> OwnData:
        known: dict[str, Any] = {name: float("nan") if value is None else value for name, value in plain.items()}
        return cls(**known)


class Guess:
    """Predicts as ``objective`` does, but the same for every case, whatever its image.

    Probabilities are ``share`` everywhere, values ``value``, classes the one numbered ``often``, images as they came;
    for anything else it has no answer. ``shapes`` of predictions are kept by those of the batch: the network runs once
    for all cases of one size.
    """

    def __init__(
        self, objective: Any, share: float, value: float, often: int, shapes: dict[Any, Shapes] | None = None
    ) -> None:
        self.objective, self.share, self.value, self.often = objective, share, value, often
        self.shapes: dict[Any, Shapes] = {} if shapes is None else shapes

    def eval(self) -> Guess:
        self.objective.eval()
        return self

    def parts(self) -> dict[str, Any]:
        return {}

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        key = tuple((name, values.shape) for name, values in sorted(batch.items()) if isinstance(values, Tensor))
        if key not in self.shapes:
            self.shapes[key] = {name: made.shape for name, made in self.objective.predict(batch).items()}
        image = batch["image"]
        said = {name: self._answer(name, image.new_empty(shape), batch) for name, shape in self.shapes[key].items()}
        return {name: answer for name, answer in said.items() if answer is not None}

    def _answer(self, name: str, made: Tensor, batch: Batch) -> Tensor | None:
        image = batch["image"]
        if name in ("reconstruction", "output"):
            return image if image.shape == made.shape else None
        if name == "class_probability":
            said = torch.zeros_like(made)
            said[:, self.often] = 1
            return said
        if name == "value":
            return torch.full_like(made, self.value)
        return torch.full_like(made, self.share) if name.endswith("probability") else None


def on_own_data(
    bench: Workbench, trainer: StageTrainer, metrics: Sequence[Any], most: int | None = None
) -> list[OwnData]:
    """Measure a trained stage on its training cases, or on ``most`` of them, drawn by the run's seed.

    Every rank takes its share; the numbers are on the main one. There are none if a separate program predicts,
    nor for metrics with no known trivial answer.
    """
    stage = trainer.stage
    if is_external(stage.objective) or not metrics:  # its program predicts into the folder of the run
        return []
    cases = bench.cases.learnable(stage, stage.train)
    if most is not None and len(cases) > most:
        cases = sorted(cases, key=lambda case: draw(bench.recipe.seed, case.id))[:most]
    found = _measured(bench, trainer, trainer.objective, metrics, cases)
    declared = bench.dataset(stage).declared
    truth = None if declared is None or declared.labels.kind == "any_of" else declared.of(cases).ravel()
    answers = None if found is None else _answers(_labels(found) if truth is None else truth)
    known = bench.runtime.strategy.share(answers, f"the labels of {stage.name}")
    shapes: dict[Any, Shapes] = {}
    guesses = [Guess(trainer.objective, share, value, often, shapes) for share, value, often in known]
    guessed = [_measured(bench, trainer, guess, metrics, cases) for guess in guesses]
    return [] if found is None else _compared(metrics, found, [one for one in guessed if one is not None])


def _measured(
    bench: Workbench, trainer: StageTrainer, objective: Any, metrics: Sequence[Any], cases: Sequence[Case]
) -> Evaluation | None:
    stage, dataset = trainer.stage, bench.dataset(trainer.stage)
    with Progress(quiet=True) as progress:
        features = trainer.features(cases, stage.train, progress)
        intervals = not isinstance(objective, Guess)
        request = Request(
            dataset, cases, metrics, stage.name, stage.train, stage.unit, intervals=intervals, features=features
        )
        return evaluate(objective, request, bench.runtime)


def _labels(found: Evaluation) -> np.ndarray:
    return np.array([float(row["label"]) for row in found.cases if row.get("label") is not None])


def _answers(labels: np.ndarray) -> list[tuple[float, float, int]]:
    """What to say of all cases: no, the median and the commonest class; or yes, the mean and that class."""
    labels = labels[np.isfinite(labels)]
    if not len(labels):
        return [(0.0, 0.0, 0), (1.0, 0.0, 0)]
    numbers, counts = np.unique(np.maximum(labels, 0).astype(int), return_counts=True)
    often = int(numbers[counts.argmax()])
    return [(0.0, float(np.median(labels)), often), (1.0, float(labels.mean()), often)]


def _compared(metrics: Sequence[Any], found: Evaluation, guessed: Sequence[Evaluation]) -> list[OwnData]:
    compared = []
    for metric in metrics:
        own = found.values.get(metric.name)
        guesses = [one.values[metric.name].value for one in guessed if metric.name in one.values]
        known = [value for value in guesses if np.isfinite(value)]
        if own is None or not known:
            continue
        best = max(known) if metric.higher_is_better else min(known)
        about = (own.n_patients, own.unit, metric.higher_is_better)
        compared.append(OwnData(metric.name, own.value, best, own.low, own.high, *about))
    return compared


def keep(folder: RunFolder, stage: str, found: Sequence[OwnData]) -> None:
    """Record what a stage is worth on its own data, beside its results."""
    folder.write_json(FILE, {**folder.read_json(FILE, {}), stage: [one.json() for one in found]})


def read(folder: RunFolder) -> dict[str, list[OwnData]]:
    """What :func:`keep` wrote, by stage; empty if nothing was asked for."""
    plain = folder.read_json(FILE, {})
    return files.guarded(
        folder.file(FILE),
        lambda: {stage: [OwnData.from_json(one) for one in found] for stage, found in plain.items()},
    )
