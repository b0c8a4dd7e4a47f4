"""The trials of a study: a checked recipe for each method and each point of what varies."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from medkit.errors import InputError, Problems
from medkit.recipe import Recipe
from medkit.recipe import yaml as yaml_marks
from medkit.recipe.pieces import names_there
from medkit.recipe.reader import read_recipe
from medkit.recipe.yaml import Node, assign
from medkit.runs.stage_key import by_content, data_by_content, digest
from medkit.studies.clashes import Said, refuse_overwritten
from medkit.studies.rows import with_only
from medkit.studies.study import SEED, Compare, Method, Study

STRANGE = re.compile(r"[^\w@+.~-]+")
LONGEST = 120  # characters in a folder's name
MOST = 20  # problems of one study that are reported


@dataclass(frozen=True)
class Trial:
    """One run of a study.

    ``point`` has the label of each axis; ``stages`` the planned key of each stage: stages with the same planned key are
    one training.
    """

    name: str
    method: str
    point: Mapping[str, str]
    stages: Mapping[str, str]
    kind: str = "trial"
    """``search`` if it only helps to choose hyper-parameters."""
    recipe: Recipe | None = field(default=None, compare=False, repr=False)

    @property
    def place(self) -> tuple[str, ...]:
        """The labels of its point without the seed."""
        return tuple(label for axis, label in self.point.items() if axis != SEED)

    def plain(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "method": self.method,
            "point": dict(self.point),
            "stages": dict(self.stages),
            "kind": self.kind,
        }


class Expansion:
    """Makes the trials of a study; the recipe's file is read once."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._root = yaml_marks.read(study.recipe, study.recipe_name)

    def trials(self, chosen: Mapping[str, Mapping[str, Node]] | None = None) -> list[Trial]:
        """All trials, point by point, so that the methods of a comparison end together.

        ``chosen`` has further changes of each method: hyper-parameters that a search has found, or epochs that fit into
        the seconds it gets.

        Raises
        ------
        Problems
            everything that is wrong with any of their recipes.
        """
        problems: dict[str, InputError] = {}
        found: list[Trial] = []
        for point, method in self._combinations():
            try:
                found.append(self.trial(method, point, list((chosen or {}).get(method.name, {}).items())))
            except Problems as several:
                problems |= {str(problem): problem for problem in several.problems}
            except InputError as error:
                problems[str(error)] = error
        if problems:
            told = list(problems.values())[:MOST]
            if len(problems) > MOST:
                told.append(InputError(f"and {len(problems) - MOST} more"))
            raise Problems(told)
        return _named(found)

    def trial(
        self, method: Method, point: Mapping[str, str], chosen: Sequence[tuple[str, Node]] = (), kind: str = "trial"
    ) -> Trial:
        """One trial: the recipe with the point's values, the method's, then what was chosen for the method.

        Raises
        ------
        InputError
            for a key that leads nowhere, a value that another one would overwrite, and a recipe that is refused.
        """
        root = copy.deepcopy(self._root)
        said = self._said(method, point, chosen)
        refuse_overwritten(root, said)
        for one in said:
            try:
                assign(root, one.key, one.value, one.value.place)
            except InputError as error:
                raise InputError(f"{one.key}: {error.what}", error.where, error.hint) from error
        recipe = read_recipe(root, folder=self.study.folder)
        if method.skip:
            try:
                recipe = recipe.without(method.skip)
            except InputError as error:
                raise InputError(f"methods.{method.name}.skip: {error.what}", str(method.mark), error.hint) from error
        if method.only:
            recipe = with_only(recipe, method.only)
        self._check(recipe, method)
        return Trial(_name(method.name, point), method.name, dict(point), planned_keys(recipe), kind, recipe)

    def _said(self, method: Method, point: Mapping[str, str], chosen: Sequence[tuple[str, Node]]) -> list[Said]:
        """All values that make a trial of the recipe, in the order in which they are put there."""
        varied = [
            Said(f"'vary.{axis.key}'", key, axis.values[point[axis.name]], axis.mark)
            for axis in self.study.axes
            for key in axis.keys
        ]
        own = [Said(f"method '{method.name}'", key, value, value.place) for key, value in method.changes.items()]
        source = "'search.over'" if self.study.search is not None else "'compare.seconds'"
        return [*varied, *own, *(Said(source, key, value, value.place) for key, value in chosen)]

    def _combinations(self) -> Iterator[tuple[dict[str, str], Method]]:
        """Every point with every method, seed by seed."""
        axes = sorted(self.study.axes, key=lambda axis: axis.key != SEED)
        seeds = [axis for axis in axes if axis.key == SEED]
        others = [axis for axis in axes if axis.key != SEED]
        for first in itertools.product(*(axis.values for axis in seeds)):
            for method in self.study.methods:
                for rest in itertools.product(*(axis.values for axis in others)):
                    labels = dict(zip([axis.name for axis in axes], [*first, *rest], strict=True))
                    yield labels, method

    def _check(self, recipe: Recipe, method: Method) -> None:
        """What is compared exists: the stage, its metric, a split that it is tested on."""
        if self.study.compare is not None:
            for compare in (self.study.compare, *self.study.compare.also):
                self._check_compared(compare, recipe, method)

    def _check_compared(self, compare: Compare, recipe: Recipe, method: Method) -> None:
        where = str(compare.mark)
        names = [stage.name for stage in recipe.stages]
        if compare.stage not in names:
            what = f"compare.stage: method '{method.name}' has no stage '{compare.stage}'"
            raise InputError(what, where, names_there(compare.stage, names))
        stage = recipe.stage(compare.stage)
        tested = [*recipe.evaluated_splits(stage), *recipe.points(stage)]
        if compare.split not in tested:
            what = f"compare.split: stage '{stage.name}' is not tested on '{compare.split}'"
            raise InputError(what, where, names_there(compare.split, tested))
        metrics = [metric.entry.name for metric in stage.metrics]
        if not any(compare.metric == name or compare.metric.startswith(f"{name}_") for name in metrics):
            what = f"compare.metric: stage '{stage.name}' has no metric '{compare.metric}'"
            raise InputError(what, where, names_there(compare.metric, metrics))


def planned_keys(recipe: Recipe) -> dict[str, str]:
    """The planned key of each stage: a digest of everything in the recipe that its weights come from.

    Within one study two stages with the same planned key have the same key (:mod:`medkit.runs.stage_key`), which is
    known only once the stages that they take parts from have been trained.
    """
    resolved = recipe.resolved()
    found: dict[str, str] = {}
    for stage, own in zip(recipe.stages, resolved["stages"], strict=True):
        data = resolved["data"][stage.data]
        seen = [data["splits"].get(split) for split in stage.splits([])]
        found[stage.name] = digest(
            {
                "seed": recipe.seed,
                "stage": by_content({name: value for name, value in own.items() if name != "evaluate"}),
                "data": data_by_content(data),
                "splits": seen,
                "parents": {name: found[name] for name in sorted(stage.takes_from())},
            }
        )
    return found


def _name(method: str, point: Mapping[str, str]) -> str:
    words = [method, *(f"{axis}{label}" for axis, label in point.items())]
    return STRANGE.sub("_", "-".join(words))[:LONGEST]


def _named(trials: Sequence[Trial]) -> list[Trial]:
    """Trials whose names would give the same folder are told apart by a number."""
    seen: dict[str, int] = {}
    found = []
    for trial in trials:
        count = seen[trial.name] = seen.get(trial.name, 0) + 1
        found.append(trial if count == 1 else replace(trial, name=f"{trial.name}~{count}"))
    return found
