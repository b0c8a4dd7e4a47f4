"""A trained stage measured on one of its splits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medkit.engine.progress import Progress
from medkit.evaluation.evaluate import Evaluation, evaluate
from medkit.runs.trainers import StageTrainer
from medkit.runs.workbench import Workbench


def measure(
    bench: Workbench, trainer: StageTrainer, metrics: Sequence[Any], split: str, progress: Progress
) -> Evaluation:
    """Predict the cases of ``split`` and measure them, with intervals and the report's pictures."""
    stage, dataset = trainer.stage, bench.dataset(trainer.stage)
    cases = dataset.cases(split)
    predicted = trainer.predicted(cases, split, progress)
    with progress.task(f"{stage.name}: evaluating {split}", total=len(cases)) as advance:
        return evaluate(
            trainer.objective,
            dataset,
            cases,
            metrics,
            stage=stage.name,
            split=split,
            unit=stage.unit,
            device=bench.runtime.device,
            progress=advance,
            examples=bench.recipe.report.maps.get("cases", 4),
            predicted=predicted,
        )
