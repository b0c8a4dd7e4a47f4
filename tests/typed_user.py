"""What a type checker knows of medkit from outside: ``.ci/run`` gives this file to mypy, under strict rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import medkit
from medkit.api import Channels, InputError
from medkit.evaluation.verdict_result import Verdict
from medkit.recipe import Recipe
from medkit.runs.handle import Run
from medkit.runs.predictor import Prediction


@medkit.part("schedule", "half the rate at the end")
class Half:
    """Half the rate at the end."""

    def rate(self, lr: float, epoch: int, epochs: int) -> float:
        return lr * (1 - 0.5 * epoch / epochs)


def use(folder: Path, given: dict[str, Any], channels: Channels) -> Prediction:
    recipe = medkit.recipe_from(given, set=["seed=3"])
    assert_type(recipe, Recipe)
    assert_type(medkit.load_recipe("ich_seg"), Recipe)
    assert_type(medkit.run(given, folder, device="cpu", quiet=True), Run)
    assert_type(medkit.resume(folder), Run)
    assert_type(medkit.verdict("values.csv", "a", "b"), Verdict)
    assert_type(Half().rate(1.0, 1, len(channels)), float)
    run = medkit.open(folder)
    assert_type(run.results["s"]["test"]["auc"].value, float)
    try:
        return run.predict(folder / "scan")
    except InputError as error:
        raise SystemExit(error.hint) from error
