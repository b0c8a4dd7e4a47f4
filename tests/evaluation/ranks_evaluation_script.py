"""Two ranks evaluate stages of bundled recipes together; then rank 0 does it alone, into another folder."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from medkit.engine.agreement import FailedTogether
from medkit.engine.runtime import Runtime
from medkit.errors import RunError
from medkit.evaluation.case_table import merge_cases
from medkit.evaluation.evaluate import Request, evaluate
from medkit.evaluation.results import write_results
from medkit.recipe import load_recipe
from medkit.runs.workbench import Workbench

NUMBER = 7  # odd: ranks have shares of different size; enough for intervals
MANY = "data.ich.source.patients=24"
RECIPES = {
    "slices": ("tiny_ich_seg", "pretext", "train", [MANY, "stages.pretext.metrics=[auc, dice, f1]"]),
    "volumes": ("tiny_ich_seg", "segment", "train", [MANY]),
    "denoising": (
        "tiny_ldct",
        "denoise",
        "train",
        [
            "data.ldct.source.source.patients=24",
            "stages.denoise.metrics=[psnr, {use: fid, weights: random_test_features}, "
            "{use: pl, weights: random_test_features}]",
        ],
    ),
    "views": ("tiny_pedxnet_boneage", "views", "internal", []),
    "failure": ("tiny_ich_seg", "pretext", "train", [MANY]),
}


class Failing:
    """A metric that cannot measure the second case, which is rank 1's."""

    name, unit, higher_is_better, empty = "failing", "", True, "none"

    def __init__(self, case: str) -> None:
        self.case = case

    def per_case(self, case: dict) -> dict:
        if str(case["id"]).startswith(self.case):
            raise RunError("this case cannot be measured", case["id"])
        return {"x": 0.0}

    def compute(self, rows: dict) -> float:
        return 0.0

    def score(self, row: dict) -> float:
        return 0.0


folder = Path(sys.argv[1])
torch.set_num_threads(1)
together = Runtime.start(device="cpu")
for mode, (name, stage_name, split, changes) in RECIPES.items():
    recipe = load_recipe(name, set=changes)
    for who, runtime in (("ranks", together), ("alone", Runtime(torch.device("cpu")))):
        if who == "alone" and not together.is_main:
            break
        bench = Workbench(recipe, runtime)
        stage = recipe.stage(stage_name)
        dataset = bench.dataset(stage)
        cases = dataset.cases(split)[:NUMBER]
        assert len(cases) == NUMBER
        metrics = [Failing(cases[1].id)] if mode == "failure" else bench.metrics(stage)
        request = Request(dataset, cases, metrics, stage.name, split, stage.unit, examples=3, by_group=True)
        try:
            found = evaluate(bench.objective(stage), request, runtime)
        except FailedTogether as error:
            (folder / f"{who}{runtime.rank}").write_text(str(error.__cause__))
            break
        if found is not None:
            written = folder / mode / who
            written.mkdir(parents=True)
            write_results(written, found)
            merge_cases(written)
