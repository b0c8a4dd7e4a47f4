"""What a study cannot come to, foreseen before anything is trained: verdicts over too few patients or seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from medkit.evaluation.bootstrap import FEWEST
from medkit.evaluation.verdict import FEWEST_SEEDS
from medkit.evaluation.verdict_spread import FEWEST_SEEDS as FEWEST_OF_SPREAD
from medkit.runs.workbench import Workbench
from medkit.studies.study import SEED, Study


def without_verdict(study: Study, benches: Mapping[str, Workbench]) -> list[str]:
    """Why comparisons of the study will have no verdict, one line for each reason; nothing if it compares nothing."""
    return [f"no verdict can come of this: {told}" for told in dict.fromkeys(_reasons(study, benches))]


def _reasons(study: Study, benches: Mapping[str, Workbench]) -> Iterator[str]:
    if study.compare is None or (study.compare.reference is None and study.plan is None):
        return
    axis = study.axis(SEED)
    seeds = 1 if axis is None else len(axis.values)
    if seeds < FEWEST_SEEDS:
        yield f"{seeds} seed{'s' * (seeds != 1)}, a verdict needs {FEWEST_SEEDS}"
    elif study.claim is not None and study.claim.steadier and seeds < FEWEST_OF_SPREAD:
        yield f"{seeds} seeds, a verdict on how far they differ needs {FEWEST_OF_SPREAD}"
    if any("data" in (key.split(".")[0], key.split(".")[-1]) for axis in study.axes for key in axis.keys):
        return  # the benches have the data of the first point alone
    for one in (study.compare, *study.compare.also):
        for bench in benches.values():
            stage = next((stage for stage in bench.recipe.stages if stage.name == one.stage), None)
            if stage is None:
                continue
            stressed = bench.recipe.stressed(stage).items()
            split = next((curve.split for name, curve in stressed if one.split in curve.points(name)), one.split)
            patients = len({case.patient for case in bench.dataset(stage).cases(split)})
            if patients < FEWEST:
                had = f"has {patients} patient{'s' * (patients != 1)}"
                yield f"'{one.split}' of stage '{one.stage}' {had}, a verdict needs {FEWEST}"
