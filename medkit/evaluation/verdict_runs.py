"""The table that a verdict is made from, out of run folders: each run is a seed, each stage or variant a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medkit.errors import InputError, did_you_mean, some
from medkit.evaluation import files
from medkit.evaluation.case_table import CaseTable
from medkit.evaluation.metric_arguments import measured_apart, metric_blocks
from medkit.evaluation.pseudo_values import class_mean_values, pseudo_values
from medkit.evaluation.reported import classes_behind, known, number_in
from medkit.evaluation.results import MetricValue, read_results, recorded
from medkit.evaluation.same_cases import by_case, unlike
from medkit.evaluation.verdict_recipes import check_alike
from medkit.parts.metrics_classification import AUC
from medkit.recipe.values import SEPARATOR

Row = dict[str, Any]
Lines = Sequence[Mapping[str, Any]]
"""Lines of ``cases.csv`` of one evaluation."""
Training = tuple[str, str]
"""Method and seed."""


@dataclass(frozen=True)
class RunValues:
    """Rows for :func:`medkit.evaluation.verdict.verdict`, and of what: a metric on a test set."""

    rows: list[Row]
    metric: str
    split: str
    higher_is_better: bool
    trainings: Mapping[str, Sequence[tuple[Path, str]]]
    """Of each method, the run folders and the stage that it is in each."""
    notes: Mapping[str, Sequence[str]]
    """Of each method, what a reader has to know."""
    left_out: Sequence[str] = ()
    """What a reader has to know of cases that not all trainings have."""


@dataclass(frozen=True)
class _Run:
    folder: Path
    name: str
    seed: str
    recipe: Mapping[str, Any]
    results: Mapping[str, Mapping[str, Mapping[str, MetricValue]]]
    cases: CaseTable

    @classmethod
    def read(cls, folder: Path) -> _Run:
        if not (folder / "recipe.yaml").is_file():
            hint = "give a table with the columns method, seed, patient and value, or folders of runs"
            raise InputError("this is neither a table nor a run folder", str(folder), hint)
        recipe = files.read_recipe(folder)
        seed, cases = str(recipe.get("seed", 0)), CaseTable.of_folder(folder)
        return cls(folder, recipe["name"], seed, recipe, read_results(folder), cases)


def run_values(
    folders: Sequence[Path],
    metric: str,
    stage: str | None = None,
    split: str | None = None,
    methods: Sequence[str] = (),
    *,
    common: bool = False,
) -> RunValues:
    """The values of a metric in several runs.

    Methods are stages and variants by their names (``segment``, ``segment@scratch``), or ``RECIPE:STAGE`` if the runs'
    recipes have different names. Seeds are the runs' own. Slices and volumes are cases of their patient; those that
    are empty for the metric are left out. ``auc`` is not a mean over cases, so its patients have pseudo-values
    (:func:`medkit.evaluation.pseudo_values.pseudo_values`), and nor is a mean over classes
    (:func:`medkit.evaluation.pseudo_values.class_mean_values`); any other metric without per-case values is refused.
    So are runs whose recipes differ in more than their seeds
    (:func:`medkit.evaluation.verdict_recipes.check_alike`), methods of which the metric has other arguments, and cases
    of the same names that are not the same ones.

    Parameters
    ----------
    stage:
        With its variants. By default all stages that have the metric.
    split:
        A test set. By default the only one there is.
    methods:
        Those that are compared, whose recipes have to agree. By default all.
    common:
        Where patients have no values of their own (``auc``, means over classes), take the cases that all trainings of
        ``methods`` have, instead of refusing what differs. Other values are matched by
        :func:`medkit.evaluation.verdict.verdict`.
    """
    runs = [_Run.read(Path(folder)) for folder in folders]
    several = len({run.name for run in runs}) > 1
    metric, split, having = _chosen(runs, metric, stage, split)
    taken: dict[tuple[str, str], Path] = {}
    trainings: dict[str, list[tuple[_Run, str]]] = {}
    for run, name in having:
        method = f"{run.name}:{name}" if several else name
        if (method, run.seed) in taken:
            what = f"'{method}' was trained with seed {run.seed} in {taken[method, run.seed]} too"
            raise InputError(what, str(run.folder), "give runs of different seeds: medkit run RECIPE --seed N")
        taken[method, run.seed] = run.folder
        trainings.setdefault(method, []).append((run, name))
    compared = {method: mine for method, mine in trainings.items() if method in (methods or trainings)}
    _check_cases([one for mine in compared.values() for one in mine], split)
    notes = {method: _alike(method, mine, metric, split) for method, mine in compared.items()}
    blocks = {method: metric_blocks(mine[0][0].recipe, mine[0][1], metric) for method, mine in compared.items()}
    if (apart := measured_apart(blocks, metric)) is not None:
        hint = "measure all methods with the same arguments; --stage compares fewer"
        raise InputError(apart, str(runs[0].folder), hint)
    lines = {(m, run.seed): run.cases.of(name, split) for m, mine in trainings.items() for run, name in mine}
    shared, left_out = shared_values({of: mine for of, mine in lines.items() if of[0] in compared}, metric, common)
    rows = [
        {"method": of[0], "seed": of[1], **value}
        for of, mine in lines.items()
        for value in (shared[of] if of in shared else patient_values(mine, metric))
    ]
    stages = {method: [(run.folder, name) for run, name in mine] for method, mine in compared.items()}
    run, name = having[0]
    return RunValues(rows, metric, split, run.results[name][split][metric].higher_is_better, stages, notes, left_out)


def _check_cases(trainings: Sequence[tuple[_Run, str]], split: str) -> None:
    """Refuse runs in which cases of the same names are not the same cases: they would count as the same patients."""
    each = [(run, by_case(run.cases.of(name, split))) for run, name in trainings]
    for run, others in each[1:]:
        first, rows = each[0]
        if told := unlike(rows, others):
            what = f"'{split}' has different cases than in {first.folder}: {told}"
            raise InputError(what, str(run.folder), "compare runs that were tested on the same images and labels")


def _alike(method: str, mine: Sequence[tuple[_Run, str]], metric: str, split: str) -> list[str]:
    folders = [run.folder for run, _ in mine]
    return check_alike(method, folders, [(run.recipe, name) for run, name in mine], metric, split)


def _chosen(
    runs: Sequence[_Run], metric: str, stage: str | None, split: str | None
) -> tuple[str, str, list[tuple[_Run, str]]]:
    """The metric by its recorded name, the test set, and the stages that have both, each with its run."""
    stages = [
        (run, name) for run in runs for name in run.results if stage in (None, name, name.partition(SEPARATOR)[0])
    ]
    where = None if len(runs) > 1 else str(runs[0].folder)
    if not stages:
        names = dict.fromkeys(name for run in runs for name in run.results)
        raise InputError(f"no stage is named '{stage}'", where, did_you_mean(stage or "", names) or ", ".join(names))
    metrics = dict.fromkeys(m for run, name in stages for found in run.results[name].values() for m in found)
    metric = recorded(metric, metrics)
    if metric not in metrics:
        hint = did_you_mean(metric, metrics) or f"there are {', '.join(metrics)}"
        raise InputError(f"no stage has the metric '{metric}'", where, hint)
    splits = dict.fromkeys(s for run, name in stages for s, found in run.results[name].items() if metric in found)
    if split is None and len(splits) > 1:
        raise InputError(f"'{metric}' was measured on {', '.join(splits)}", where, "choose one: --split NAME")
    split = split or next(iter(splits))
    if split not in splits:
        hint = did_you_mean(split, splits) or f"there are {', '.join(splits)}"
        raise InputError(f"'{metric}' was not measured on a split '{split}'", where, hint)
    return metric, split, [(run, name) for run, name in stages if metric in run.results[name].get(split, {})]


def shared_values(
    trainings: Mapping[Training, Lines], metric: str, common: bool = False
) -> tuple[dict[Training, list[Row]], list[str]]:
    """:func:`patient_values` of several trainings, of the same cases, and what was left out for that.

    What patients add to a number of all cases together does not tell which cases those are: trainings on other cases of
    the same patients would be compared as if they were equal.

    Raises
    ------
    InputError
        naming the first training and case, unless ``common``, if a case is not in all trainings.
    """
    columns = list(dict.fromkeys(name for lines in trainings.values() for name in _columns(metric, lines)))
    if not _together(metric, columns):
        return {of: _of_cases(metric, lines) for of, lines in trainings.items()}, []
    having = {
        of: {(line["patient"], line["case"], name) for line in lines for name in columns if known(line, name)}
        for of, lines in trainings.items()
    }
    everything, everywhere = set.union(*having.values()), set.intersection(*having.values())
    if everything == everywhere:
        return {of: _adding(metric, columns, lines) for of, lines in trainings.items()}, []
    if not everywhere:
        what = f"no case has a value of '{metric}' in all trainings: they were tested on other images, or other units"
        raise InputError(what, None, "compare stages that were tested on the same slices, or on the same volumes")
    if not common:
        raise _lacking(metric, having, everything)
    columns = [name for name in columns if any(name == each for *_, each in everywhere)]
    kept = {of: [_only(line, columns, everywhere) for line in lines] for of, lines in trainings.items()}
    count = len({(patient, case) for patient, case, _ in everything - everywhere})
    told = f"Cases of which not all trainings have the values were left out: {count}."
    return {of: _adding(metric, columns, lines) for of, lines in kept.items()}, [told]


def _only(line: Mapping[str, Any], columns: Sequence[str], those: set[tuple[str, str, str]]) -> Mapping[str, Any]:
    """A line without the values of ``columns`` that are not among ``those``."""
    gone = {name: "" for name in columns if (line["patient"], line["case"], name) not in those}
    return {**line, **gone}


def _lacking(
    metric: str, having: Mapping[Training, set[tuple[str, str, str]]], everything: set[tuple[str, str, str]]
) -> InputError:
    (method, seed), mine = next((of, mine) for of, mine in having.items() if mine != everything)
    cases = [
        f"'{case}' of patient '{patient}'" + ("" if metric == AUC.name else f" with '{name}'")
        for patient, case, name in sorted(everything - mine)
    ]
    what = f"'{method}' has no case {some(cases)} under seed {seed}, and '{metric}' is of all cases together"
    return InputError(what, None, "compare what all have: --common (common=True)")


def patient_values(lines: Lines, metric: str) -> list[Row]:
    """``patient``, ``case`` and ``value`` of a metric from the lines of ``cases.csv`` of one evaluation.

    Values of several trainings that are compared come from :func:`shared_values`.

    Raises
    ------
    InputError
        for a metric without per-case values, except ``auc``; for a mean over classes of which one has fewer than six
        patients.
    """
    columns = _columns(metric, lines)
    return _adding(metric, columns, lines) if _together(metric, columns) else _of_cases(metric, lines)


def is_of_all_cases(metric: str, lines: Lines) -> bool:
    """Whether patients have no values of a metric of their own, but something that they add to it."""
    return _together(metric, _columns(metric, lines))


def _of_cases(metric: str, lines: Lines) -> list[Row]:
    """The cases' own values of a metric."""
    measured = [line for line in lines if known(line, metric)]
    rows = [{"patient": n["patient"], "case": n["case"], "value": number_in(n, metric)} for n in measured]
    if not rows:
        hint = "judge a metric with a value per case, or auc; Python: pseudo_values and a table of your own"
        raise InputError(f"'{metric}' is not a mean over cases: cases.csv has no value of it", None, hint)
    return rows


def _columns(metric: str, lines: Lines) -> list[str]:
    """The columns that say which cases a metric of all cases together is of; for a mean over classes, its classes."""
    return ["label"] if metric == AUC.name else classes_behind(metric, lines)


def _together(metric: str, columns: Sequence[str]) -> bool:
    """Whether a metric is no mean over cases, but patients have something that they add to it."""
    return metric == AUC.name or len(columns) > 1


def _adding(metric: str, columns: Sequence[str], lines: Lines) -> list[Row]:
    """What each patient adds to a metric of all cases together."""
    if metric != AUC.name:
        values = class_mean_values(metric, columns, lines)
    else:
        lines = [line for line in lines if known(line, "label")]
        read = {name: np.array([number_in(line, name) for line in lines]) for name in ("label", "probability")}
        values = pseudo_values(AUC(), read, [line["patient"] for line in lines])
    return [{"patient": patient, "case": patient, "value": value} for patient, value in values.items()]
