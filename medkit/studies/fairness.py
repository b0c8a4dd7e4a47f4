"""What the methods of a comparison are given: the same data, the same draws, the same steps, or a reason why not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medkit.errors import InputError
from medkit.recipe import Stage
from medkit.runs.stage_key import data_by_content, digest, is_external
from medkit.runs.workbench import Workbench
from medkit.studies.measures import check_measures
from medkit.studies.study import Study
from medkit.studies.tables import Table

DATA = ("source", "prepare", "fields")
"""The keys of a data block that define samples; the views that a pretext takes of them are its own."""
DRAWS = ("unit", "draw", "slices", "balance", "patches", "patch_size")


@dataclass(frozen=True)
class Given:
    """What one method gets in one stage; optimizer ``steps`` are None if none are taken."""

    method: str
    stage: str
    data: str
    cases: int
    draws: str
    batch: int
    steps: int | None
    tuning: str
    digest: str = ""
    seconds: float | None = None
    """Of training, if methods get the same time."""


GIVEN: dict[str, Callable[[Given], Any]] = {
    "data": lambda given: given.digest,
    "draws": lambda given: given.draws,
    "steps": lambda given: (given.steps, given.batch),
}
"""What has to be equal for all methods, and how it is determined."""


def check_fairness(study: Study, benches: Mapping[str, Workbench]) -> list[Given]:
    """What each method is given at the first point of the study.

    Raises
    ------
    InputError
        for anything that methods differ in without a reason under ``compare.unequal``, also in the arguments of the
        metrics that they are compared by.
    """
    tuning = f"{study.search.trials} trials" if study.search else "none"
    rows = [_given(method, bench, stage, tuning) for method, bench in benches.items() for stage in bench.recipe.stages]
    if study.compare is None:
        return rows
    check_measures(study, {method: bench.recipe for method, bench in benches.items()})
    rows = [replace(row, seconds=study.compare.seconds.get(row.stage)) for row in rows]
    for name in dict.fromkeys(row.stage for row in rows):
        mine = [row for row in rows if row.stage == name]
        for kind, read in GIVEN.items():
            if kind == "steps" and name in study.compare.seconds:
                continue
            other = next((row for row in mine if read(row) != read(mine[0])), None)
            if other is not None and kind not in study.compare.unequal:
                what = f"methods '{mine[0].method}' and '{other.method}' get different {kind} in stage '{name}'"
                found = f"{_shown(mine[0], kind)} and {_shown(other, kind)}"
                hint = f"make them equal, or say why not: compare: {{unequal: {{{kind}: REASON}}}}"
                raise InputError(f"{what}: {found}", str(study.compare.mark), hint)
    return rows


def _shown(row: Given, kind: str) -> str:
    if kind == "data":
        return f"{row.data} of {row.cases} cases"
    if kind == "draws":
        return row.draws
    return "as many steps as its program takes" if row.steps is None else f"{row.steps} steps of {row.batch}"


def _given(method: str, bench: Workbench, stage: Stage, tuning: str) -> Given:
    plain: dict[str, Any] = next(s for s in bench.recipe.resolved()["stages"] if s["name"] == stage.name)
    block = bench.recipe.resolved()["data"][stage.data]
    cases = bench.cases.train(stage)
    samples = [data_by_content({key: block[key] for key in DATA}), [case.id for case in cases]]
    draws = {key: plain[key] for key in DRAWS if plain.get(key) not in (None, False, 1)}
    if stage.unit not in ("patch", "patch3d"):
        draws = {key: value for key, value in draws.items() if not key.startswith("patch")}
    return Given(
        method=method,
        stage=stage.name,
        data=f"{stage.data}, {_split(plain['train'])}",
        cases=len(cases),
        draws=", ".join(f"{key} {value}" for key, value in draws.items()),
        batch=stage.batch * stage.accumulate,
        steps=_steps(bench, stage),
        tuning=tuning,
        digest=digest(samples),
    )


def _split(train: Any) -> str:
    if isinstance(train, Mapping):
        return " ".join(f"{value}" if key == "split" else f"{key} {value}" for key, value in train.items())
    return str(train)


def _steps(bench: Workbench, stage: Stage) -> int | None:
    """Optimizer steps in a whole training, without early stops."""
    if stage.fitted or is_external(stage.objective):
        return None
    return math.ceil(bench.sampler(stage).steps / stage.accumulate) * stage.epochs


def fairness_table(rows: Sequence[Given]) -> Table:
    """What each method is given, stage by stage."""
    columns = ["stage", "method", "data", "cases", "draws", "batch", "steps", "tuning"]
    stages = dict.fromkeys(row.stage for row in rows)
    shown = [
        (
            row.stage,
            row.method,
            row.data,
            row.cases,
            row.draws,
            row.batch,
            "–" if row.steps is None else row.steps if row.seconds is None else f"{row.steps} in {row.seconds:g} s",
            row.tuning,
        )
        for stage in stages
        for row in rows
        if row.stage == stage
    ]
    return Table("what methods are given", columns, shown)


def given_of(about: Mapping[str, Any]) -> list[Given]:
    """What ``study.json`` has kept of it."""
    return [Given(**row) for row in about.get("fairness", [])]
