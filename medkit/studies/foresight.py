"""What a study cannot come to, foreseen before anything is trained: verdicts over too few patients or seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from medkit.evaluation.bootstrap import FEWEST
from medkit.evaluation.verdict import FEWEST_SEEDS
from medkit.runs.workbench import Workbench
from medkit.studies.study import SEED, Study


def without_verdict(study: Study, benches: Mapping[str, Workbench]) -> list[str]:
    """Why comparisons of the study will have no verdict, one line for each reason; nothing if it compares nothing."""
    return [f"no verdict can come of this: {told}" for told in dict.fromkeys(_reasons(study, benches))]


def _reasons(study: Study, benches: Mapping[str, Workbench]) -> Iterator[str]:
    if study.compare is None:
        return
    axis = study.axis(SEED)
    seeds = 1 if axis is None else len(axis.values)
    if seeds < FEWEST_SEEDS:
        yield f"{seeds} seed{'s' * (seeds != 1)}, a verdict needs {FEWEST_SEEDS}"
    for one in (study.compare, *study.compare.also):
        for bench in benches.values():
            stage = next((stage for stage in bench.recipe.stages if stage.name == one.stage), None)
            if stage is None or one.split not in bench.recipe.data[stage.data].splits:  # a point of a curve is no split
                continue
            patients = len({case.patient for case in bench.dataset(stage).cases(one.split)})
            if patients < FEWEST:
                had = f"has {patients} patient{'s' * (patients != 1)}"
                yield f"'{one.split}' of stage '{one.stage}' {had}, a verdict needs {FEWEST}"
