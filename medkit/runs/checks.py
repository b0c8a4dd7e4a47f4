"""What can be said about a recipe only when its components are built, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medkit.engine.optimizers import Optimization, check_rates, check_resumable
from medkit.engine.settings import Criterion
from medkit.errors import InputError, did_you_mean
from medkit.evaluation.results import recorded
from medkit.parts.clipping import Norm
from medkit.protocols import Clip, Objective, offered
from medkit.recipe import Recipe, Stage
from medkit.recipe.blocks import Block
from medkit.recipe.model import EarlyStop, KeepBest
from medkit.recipe.training import BESIDE


def check_turns(stage: Stage, objective: Any) -> None:
    """Refuse turns that the engine cannot take, and optimizers, schedules and bounds that do not build."""
    where = f"stages.{stage.name}.objective"
    turns = objective.turns()
    for turn in turns:
        strangers = [name for name in turn.parts if name not in objective.parts()]
        if strangers:
            hint = f"its parts: {', '.join(objective.parts()) or 'none'}"
            raise InputError(f"turn '{turn.name}' trains '{strangers[0]}', which is not a part of it", where, hint)
        if turn.combine not in ("sum", "pcgrad"):
            what = f"turn '{turn.name}' combines gradients by '{turn.combine}'"
            raise InputError(what, where, "'sum' and 'pcgrad' are known")
        if turn.combine == "pcgrad" and not list(offered(Objective, objective, "shared_parameters")(turn.name)):
            what = f"turn '{turn.name}' wants pcgrad, and no parameters are shared between its tasks"
            raise InputError(what, where, "shared_parameters(turn) has to name them")
    names = [turn.name for turn in turns]
    bound_of(stage)
    optimizers, schedules = stage.optimizers(names), stage.schedules(names)
    for turn in turns:
        how = Optimization.of(optimizers[turn.name], schedules[turn.name])
        check_rates(how, stage.epochs, 1, f"stages.{stage.name}.schedule")
        try:
            check_resumable(how.build(objective, turn))
        except InputError as error:
            where = str(optimizers[turn.name].mark)
            raise InputError(f"stages.{stage.name}.optim: {error.what}", where, error.hint) from error


def bound_of(stage: Stage) -> Clip | None:
    """What bounds the gradients of a stage."""
    if isinstance(stage.clip, Block):
        found: Clip = stage.clip.build()
        return found
    return None if stage.clip is None else Norm(stage.clip)


def check_ranks(stage: Stage, cases: int, ranks: int) -> None:
    """Refuse more ranks than there are items to train on: some of them would have nothing to do."""
    items = cases * stage.slices
    if items < ranks and not stage.balance:  # balanced kinds are repeated until all ranks have some
        what = f"{ranks} ranks have {items} items of '{stage.train}' to train on, so some would have none"
        raise InputError(what, f"stages.{stage.name}.train", f"start at most {items} ranks")


def check_predicts(stage: Stage, objective: Any) -> None:
    """Refuse metrics of a stage all of whose heads have nothing to evaluate."""
    if not stage.metrics or not hasattr(objective, "heads"):
        return
    heads = dict(objective.heads.items())
    if not any(hasattr(head, "predict") for head in heads.values()):
        named = ", ".join(heads) or "it has none"
        what = f"there is nothing to measure: no head of the stage has a method predict ({named})"
        hint = "leave 'metrics' out, or give the head one: docs/plugins.md#pretext"
        raise InputError(what, f"stages.{stage.name}.metrics", hint)


def check_trainable(stage: Stage, objective: Any) -> None:
    """Refuse a turn that has nothing to train, such as a generator that is a fixed filter."""
    parts = objective.parts()
    for turn in objective.turns():
        if not any(True for name in turn.parts for _ in parts[name].parameters()):
            what = f"nothing in {' and '.join(turn.parts)} can be trained: no weights"
            raise InputError(what, f"stages.{stage.name}.objective", "what is fixed needs no stage")


def check_metric_names(recipe: Recipe, metrics: Mapping[str, Sequence[Any]]) -> None:
    """Refuse metrics to compare or to show that no stage will have; ``metrics`` are the built ones of each stage."""
    every = [metric.name for stage in recipe.stages for metric in metrics[stage.name]]
    _known(recipe.report.compare.get("metric", []), every, "report.compare.metric")
    for i, table in enumerate(recipe.report.tables):
        group = [m.name for s in recipe.stages if s.name.split("@")[0] == table.stage for m in metrics[s.name]]
        _known(table.metrics, group, f"report.tables[{i}].metrics")


def _known(wanted: Sequence[str] | Mapping[str, str], names: Sequence[str], where: str) -> None:
    names = list(dict.fromkeys(names))
    for name in wanted:
        if recorded(name, names) not in names:
            hint = did_you_mean(name, names) or f"there are: {', '.join(names)}"
            raise InputError(f"no metric of a stage is recorded as '{name}'", where, hint)


def judged_number(stage: Stage, metrics: Sequence[Any], key: str) -> Criterion | None:
    """The validated number that ``keep_best`` or ``early_stop`` (``key``) goes by: a metric, or a loss."""
    judged: KeepBest | EarlyStop | None = getattr(stage, key)
    if judged is None:
        return None
    found = metric_number(stage, metrics, judged.metric, judged.split)
    return found or Criterion(loss_key(judged.metric, judged.split, metrics), higher_is_better=False)


def metric_number(stage: Stage, metrics: Sequence[Any], name: str, split: str) -> Criterion | None:
    """The number of ``split`` that a metric gives, called as it is recorded or as in the recipe; None if none is."""
    named = [metric for metric in metrics if metric.name == name]  # rmse of [rmse_hu, rmse] is the second
    named += [m for block, m in zip(stage.metrics, metrics, strict=False) if block.entry.name == name]
    return Criterion(f"{split}/{named[0].name}", bool(named[0].higher_is_better)) if named else None


def loss_key(name: str, split: str, metrics: Sequence[Any]) -> str:
    """What a loss is called among the numbers of a validation split, where a metric may have the same name."""
    taken = any(metric.name == name for metric in metrics)
    return f"{split}/{name}{BESIDE}" if taken else f"{split}/{name}"


def judged_by_loss(stage: Stage, metrics: Sequence[Any]) -> list[str]:
    """The losses that ``keep_best`` and ``early_stop`` go by."""
    known = {metric.name for metric in metrics} | {block.entry.name for block in stage.metrics}
    judged = [item.metric for item in (stage.keep_best, stage.early_stop) if item is not None]
    return [name for name in judged if name not in known]
