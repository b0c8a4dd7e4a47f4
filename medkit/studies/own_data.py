"""Whether a trial beats the trivial answer on the very cases that it was trained on: one that does not has learned
nothing, or cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medkit.engine.progress import Progress
from medkit.engine.runtime import Runtime
from medkit.evaluation.evaluate import Evaluation, Request, evaluate
from medkit.evaluation.results import recorded
from medkit.runs.settings import RunSettings
from medkit.runs.stage_key import is_external
from medkit.runs.trainers import trainer_of
from medkit.runs.workbench import Workbench
from medkit.studies.folder import StudyFolder
from medkit.studies.trials import Trial

NOTHING = {"dice": 0.0, "iou": 0.0}
"""What masks without a single voxel are worth."""


@dataclass(frozen=True)
class OwnData:
    """A metric on the training cases: of the trial, and of the best answer that looks at no image."""

    metric: str
    value: float
    trivial: float

    @property
    def beaten(self) -> bool:
        return self.value > self.trivial


def on_own_data(folder: StudyFolder, trial: Trial, compare: Mapping[str, str], settings: RunSettings) -> OwnData | None:
    """Measure the compared stage of a finished trial on its training cases; nothing of it enters the trial's results.

    None where a program of its own predicts, and for a metric of which less is better or no trivial answer is known.
    """
    run = folder.run_folder(trial)
    bench = Workbench(run.recipe(), Runtime.start(device=settings.device, precision=settings.precision), run)
    stage = bench.recipe.stage(compare["stage"])
    if is_external(stage.objective):  # its program predicts into the folder of the run
        return None
    metric = next((one for one in bench.metrics(stage) if recorded(compare["metric"], [one.name]) == one.name), None)
    if metric is None or not metric.higher_is_better:
        return None
    trainer = trainer_of(bench, stage, bench.trained(stage))
    cases, dataset = bench.cases.learnable(stage, stage.train), bench.dataset(stage)
    with Progress(quiet=True) as progress:
        features = trainer.features(cases, stage.train, progress)
        wanted = Request(
            dataset, cases, [metric], stage.name, stage.train, stage.unit, intervals=False, features=features
        )
        found = evaluate(trainer.objective, wanted, bench.runtime)
    trivial = None if found is None else _trivial(metric, found)
    if found is None or trivial is None or metric.name not in found.values:
        return None
    return OwnData(metric.name, found.values[metric.name].value, trivial)


def _trivial(metric: Any, found: Evaluation) -> float | None:
    """The metric of the best of the answers that are the same for all cases."""
    if metric.name in NOTHING:
        return NOTHING[metric.name]
    rows = [row for row in found.cases if {"label", "probability"} <= set(row) and row["label"] is not None]
    if not rows:
        return None
    labels = np.array([float(row["label"]) for row in rows])
    answers = [metric.compute({"label": labels, "probability": np.full(len(labels), always)}) for always in (0.0, 1.0)]
    known = [value for value in answers if np.isfinite(value)]
    return max(known) if known else None
