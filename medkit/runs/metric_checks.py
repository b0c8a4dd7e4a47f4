"""What a run's metrics are recorded as: one column means one thing, whichever stage, variant or plugin fills it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medkit.data.transforms import Window
from medkit.errors import InputError, Problems
from medkit.evaluation.metric_arguments import arguments_apart
from medkit.protocols.metric import column_told, is_column
from medkit.recipe import Recipe, Stage
from medkit.recipe.blocks import Block
from medkit.recipe.labels import reads_labels
from medkit.registry.schema import schema_of
from medkit.runs.checks import check_metric_names

if TYPE_CHECKING:
    from medkit.runs.workbench import Workbench

Built = Mapping[str, Sequence[Any]]
"""The built metrics of each stage."""


def check_metrics(bench: Workbench) -> None:
    """Refuse metrics whose numbers would mean something else than they are recorded as.

    Raises
    ------
    InputError
        for a name that something else has, another window than that of the images, or a variant whose metric has
        other arguments than the stage's and the same name; and for names in the report that no metric has.
    """
    stages = bench.recipe.stages
    built = {stage.name: bench.metrics(stage) for stage in stages}
    check_metric_names(bench.recipe, built)
    problems = [problem for stage in stages for problem in _widths(bench, stage, built)]
    problems += [problem for stage in stages for problem in _variants(stage, stages, built)]
    if problems:
        raise Problems(problems)


def built_metrics(recipe: Recipe, stage: Stage) -> list[Any]:
    """The metrics of a stage, built: its own in their order, then those of single labels and classes.

    Raises
    ------
    InputError
        as :func:`check_recorded`.
    """
    built = [block.build() for block in stage.metrics]
    labels = recipe.data[stage.data].labels
    if labels is not None and reads_labels(stage):
        of = [m.of_labels(labels) if hasattr(m, "of_labels") else [m] for m in built]
        built = [*(each[0] for each in of), *(one for each in of for one in each[1:])]
    classes = recipe.data[stage.data].classes
    if classes is not None:
        pairs = [(metric, metric.of_classes(classes.names)) for metric in built if hasattr(metric, "of_classes")]
        means = {id(metric): each[0] for metric, each in pairs}
        built = [means.get(id(metric), metric) for metric in built]
        built += [one for _, each in pairs for one in each[1:]]
    check_recorded(stage, built)
    return built


def check_recorded(stage: Stage, built: Sequence[Any]) -> None:
    """Refuse metrics of a stage that are recorded under one name, or under that of another column of ``cases.csv``.

    Raises
    ------
    InputError
        naming the metric, its place and the way out.
    """
    names: list[str] = []
    for i, metric in enumerate(built):
        path, place, called = f"stages.{stage.name}.metrics", f"stages.{stage.name}", f"'{metric.name}'"
        if i < len(stage.metrics):  # what stands for single classes comes after the stage's own
            block = stage.metrics[i]
            path, place, called = block.path, str(block.mark), f"'{block.name}'"
        if not isinstance(metric.name, str) or not metric.name.strip():
            hint = "its attribute 'name' is one"
            raise InputError(f"{path}: metric {called} has no name to be recorded under", place, hint)
        if metric.name in names:
            what = f"two metrics are recorded as '{metric.name}', but only one number can be"
            raise InputError(f"{path}: {what}", place, "keep one of them")
        if is_column(metric.name):
            what, hint = column_told(metric.name)
            raise InputError(f"{path}: metric {called}: {what}", place, hint)
        names.append(metric.name)


def _widths(bench: Workbench, stage: Stage, built: Built) -> list[InputError]:
    """Metrics in HU of images that were windowed to another width."""
    steps = [step.build() for step in bench.recipe.data[stage.data].prepare]
    windows = [step for step in steps if isinstance(step, Window)]
    found = []
    for block, metric in zip(stage.metrics, built[stage.name], strict=False):
        width = getattr(metric, "window_width", None)
        if len(windows) != 1 or width is None:
            continue
        low, high = windows[0].low, windows[0].high
        if abs(width - (high - low)) > 1e-6 * width:
            what = f"window_width is {width:g}, but the window of data block '{stage.data}' is {low:g} to {high:g}"
            found.append(InputError(f"{block.path}: {what}", str(block.mark), f"write {high - low:g}"))
    return found


def _variants(stage: Stage, stages: Sequence[Stage], built: Built) -> list[InputError]:
    """Metrics of a variant that have other arguments than the stage's own, and are recorded as the same."""
    base = next((other for other in stages if other.name == stage.base), None)
    if base is None or base is stage:
        return []
    own = {metric.name: block for block, metric in zip(base.metrics, built[base.name], strict=False)}
    found = []
    for block, metric in zip(stage.metrics, built[stage.name], strict=False):
        other = own.get(metric.name)
        if other is None or (mine := _arguments(block)) == (theirs := _arguments(other)):
            continue
        what = f"'{base.name}' and '{stage.name}' both record '{metric.name}', measured with other arguments"
        what = f"{what} ({arguments_apart(theirs, mine)})"
        hint = "give both the same arguments, or make the variant a stage of its own, which is not compared with it"
        found.append(InputError(f"{block.path}: {what}", str(block.mark), hint))
    return found


def _arguments(block: Block) -> dict[str, Any]:
    """What a block says, with what it leaves to the defaults of its component."""
    schema = schema_of(block.entry.load())
    return {name: argument.default for name, argument in schema.arguments.items()} | block.plain()
