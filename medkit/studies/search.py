"""Hyper-parameters chosen for each method by validation alone, with Optuna (the extra ``search``).

Every method gets the same number of attempts. They are requested in rounds of a fixed size, each round seeded by its
number, so what is chosen depends neither on how many workers there are nor on when a study was interrupted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medkit.engine.settings import Criterion
from medkit.errors import InputError, RunError
from medkit.evaluation import files
from medkit.paths import typed
from medkit.recipe import Recipe, Report
from medkit.recipe.yaml import Node
from medkit.runs.checks import judged_number, metric_number
from medkit.runs.metric_checks import built_metrics
from medkit.studies.folder import StudyFolder
from medkit.studies.search_begun import NEW, check_begun
from medkit.studies.study import Method, Range, Search, Study
from medkit.studies.trials import Expansion, Trial, planned_keys

JOURNAL = "search.journal"
ROUND = 4  # attempts of each method that are requested together
KIND = "search"

Run = Callable[[Sequence[Trial]], None]
"""Runs trials that are added to a study's plan, and waits until each has ended."""


@dataclass(frozen=True)
class Chosen:
    """What was chosen for a method: values by key, and what validation says about them."""

    method: str
    values: Mapping[str, Node]
    score: float
    attempts: int
    failed: int

    def __str__(self) -> str:
        values = ", ".join(f"{key} {node.plain()}" for key, node in self.values.items())
        return f"{self.method}: {values} ({self.score:.4g} on validation, best of {self.attempts})"

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        values = {key: node.plain() for key, node in self.values.items()}
        return {
            "method": self.method,
            "values": values,
            "score": self.score,
            "attempts": self.attempts,
            "failed": self.failed,
        }


def check_search(study: Study, recipes: Mapping[str, Recipe]) -> None:
    """Refuse a search that could not be judged, before anything is written.

    Raises
    ------
    InputError
        if Optuna is missing, a method's stage has no validation split, or a key leads nowhere.
    """
    search, compare = study.search, study.compare
    assert search is not None
    assert compare is not None
    _optuna()
    for method, recipe in recipes.items():
        stage = recipe.stage(compare.stage)
        if stage.validate is None:
            what = f"search: stage '{stage.name}' of method '{method}' has no validation split to choose by"
            raise InputError(what, str(search.mark), "give it one: validate: SPLIT")
        _wanted(recipe, compare.stage, search)
    expansion = Expansion(study)
    for given in study.methods:
        for one in search.ranges:
            for value in one.choices or (_node(one, one.low), _node(one, one.high)):
                expansion.trial(given, search.at, [(one.key, value)])


def check_attempts(study: Study, folder: StudyFolder, expansion: Expansion) -> None:
    """Refuse a folder whose attempts say nothing about this search: of other values, another metric, other recipes; and
    one that has trials without a search.

    Raises
    ------
    InputError
        naming what differs.
    """
    if (folder.path / JOURNAL).is_file():
        check_begun(study, folder)
        for method in study.methods:
            _Attempts(study, folder, method, expansion).check()
    elif study.search is not None and folder.trials():
        what = "search: the folder has trials of this study without a search, which have the names that it gives"
        raise InputError(what, str(study.search.mark), NEW)


def run_search(study: Study, folder: StudyFolder, run: Run) -> list[Chosen]:
    """Search for each method until it has had its attempts; those of an earlier search in the folder count.

    Raises
    ------
    RunError
        naming a method all of whose attempts failed.
    """
    search, expansion = study.search, Expansion(study)
    assert search is not None
    attempts = [_Attempts(study, folder, method, expansion) for method in study.methods]
    while asked := [trial for mine in attempts for trial in mine.next_round(search)]:
        run(asked)
    return [mine.best() for mine in attempts]


class _Attempts:
    """The attempts of one method, kept in the journal."""

    def __init__(self, study: Study, folder: StudyFolder, method: Method, expansion: Expansion) -> None:
        assert study.search is not None
        assert study.compare is not None
        self.study, self.folder, self.method, self.expansion = study, folder, method, expansion
        self.search, self.stage = study.search, study.compare.stage
        optuna = _optuna()
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder.path / JOURNAL)))
        plain = expansion.trial(method, self.search.at)
        assert plain.recipe is not None
        higher = _wanted(plain.recipe, self.stage, self.search).higher_is_better
        direction = "maximize" if higher else "minimize"
        self._made: dict[int, Trial] = {}
        self.optuna = optuna.create_study(
            study_name=method.name, storage=storage, direction=direction, load_if_exists=True
        )

    def check(self) -> None:
        """Refuse a folder whose attempts are of another recipe under the same numbers."""
        self.folder.check(self.study, [self._trial(t.number, t.params) for t in self.optuna.get_trials(deepcopy=False)])

    def next_round(self, search: Search) -> list[Trial]:
        """Report what has ended, and ask for more; returns the trials to run."""
        self._tell()
        known = self.optuna.get_trials(deepcopy=False)
        open_ = [trial for trial in known if not trial.state.is_finished()]
        if not open_ and len(known) < search.trials:
            number, begun = divmod(len(known), ROUND)
            # Where attempts are added later, the last round goes on: with its own seed it would draw the same again.
            self.optuna.sampler = _optuna().samplers.TPESampler(seed=search.seed + 1000 * number + begun)
            for _ in range(min(ROUND, search.trials - len(known))):
                trial = self.optuna.ask()
                for one in search.ranges:
                    _suggest(trial, one)
            open_ = [t for t in self.optuna.get_trials(deepcopy=False) if not t.state.is_finished()]
        return [self._trial(trial.number, trial.params) for trial in open_]

    def _tell(self) -> None:
        states = _optuna().trial.TrialState
        for trial in self.optuna.get_trials(deepcopy=False):
            if trial.state.is_finished():
                continue
            mine = self._trial(trial.number, trial.params)
            outcome = self.folder.outcome(mine)
            if outcome is None:
                continue
            score = self._score(mine) if outcome.status == "finished" else None
            if score is None:
                self.optuna.tell(trial.number, state=states.FAIL)
            else:
                self.optuna.tell(trial.number, score)

    def _trial(self, number: int, values: Mapping[str, Any]) -> Trial:
        if number not in self._made:
            self._made[number] = self._make(number, values)
        return self._made[number]

    def _make(self, number: int, values: Mapping[str, Any]) -> Trial:
        nodes = [(one.key, _node(one, values[one.key])) for one in self.search.ranges]
        trial = self.expansion.trial(self.method, self.search.at, nodes, KIND)
        assert trial.recipe is not None
        recipe = validated_only(trial.recipe)
        name = f"search-{self.method.name}-{number:03d}"
        return replace(trial, name=name, recipe=recipe, stages=planned_keys(recipe))

    def _score(self, trial: Trial) -> float | None:
        """What validation says about the epoch whose weights are kept; None if the metric is undefined in it."""
        run = self.folder.run_folder(trial)
        lines = [line for line in files.read_lines(run.file("metrics.jsonl")) if line["stage"] == self.stage]
        assert trial.recipe is not None
        stage = trial.recipe.stage(self.stage)
        kept = judged_number(stage, built_metrics(trial.recipe, stage), "keep_best")
        epoch = (kept.best_of(lines) if kept is not None else None) or (lines[-1] if lines else {})
        value = epoch.get(_wanted(trial.recipe, self.stage, self.search).key)
        return None if value is None else float(value)

    def best(self) -> Chosen:
        trials = self.optuna.get_trials(deepcopy=False)
        states = _optuna().trial.TrialState
        done = [trial for trial in trials if trial.state == states.COMPLETE]
        if not done:
            what = f"all {len(trials)} attempts of method '{self.method.name}' failed in the search"
            what += f", or '{self.search.metric}' is undefined on validation in the epoch whose weights are kept"
            raise RunError(what, str(self.folder.path), f"'medkit study status {typed(self.folder.path)}' says why")
        best = self.optuna.best_trial
        values = {one.key: _node(one, best.params[one.key]) for one in self.search.ranges}
        return Chosen(self.method.name, values, best.value, len(trials), len(trials) - len(done))


def validated_only(recipe: Recipe) -> Recipe:
    """The recipe without test splits: hyper-parameters are chosen by what nobody is tested on."""
    used = {(stage.data, split) for stage in recipe.stages for split in (stage.train, stage.validate)}
    data = {
        name: replace(block, splits={split: picks for split, picks in block.splits.items() if (name, split) in used})
        for name, block in recipe.data.items()
    }
    stages = [replace(stage, evaluate=[]) for stage in recipe.stages]
    return replace(recipe, data=data, stages=stages, report=Report())


def _wanted(recipe: Recipe, name: str, search: Search) -> Criterion:
    """The number of validation that decides, and whether higher is better; a metric that is not there is an error."""
    stage = recipe.stage(name)
    metrics = built_metrics(recipe, stage)
    found = metric_number(stage, metrics, search.metric, stage.validate or "")
    if found is None:
        what = f"search.metric: stage '{name}' has no metric '{search.metric}'"
        raise InputError(what, str(search.mark), f"there are: {', '.join(metric.name for metric in metrics) or 'none'}")
    return found


def _suggest(trial: Any, one: Range) -> None:
    if one.choices:
        trial.suggest_categorical(one.key, list(range(len(one.choices))))
    elif one.whole:
        trial.suggest_int(one.key, int(one.low), int(one.high), log=one.log)
    else:
        trial.suggest_float(one.key, one.low, one.high, log=one.log)


def _node(one: Range, value: Any) -> Node:
    """A value as it is written in a recipe; for a choice, its number is known."""
    if isinstance(value, Node):
        return value
    if one.choices:
        return one.choices[int(value)]
    return Node(int(value) if one.whole else float(value), one.mark, one.mark)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        what = "a search needs Optuna, which is not installed"
        raise InputError(what, "search", "pip install 'medkit-imaging[search]'") from error
    optuna.logging.set_verbosity(logging.WARNING)
    return optuna
