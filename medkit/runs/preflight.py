"""What is checked before a run writes its first file: everything that its stages need is built and tried."""

from __future__ import annotations

from collections.abc import Mapping

from medkit.errors import InputError, RunError
from medkit.recipe import Stage
from medkit.runs.checks import check_predicts, check_trainable, check_turns
from medkit.runs.metric_checks import check_metrics
from medkit.runs.stress import check_denoisers, check_seen_by_denoisers
from medkit.runs.trainers import trainer_of
from medkit.runs.workbench import Workbench


def check_run(bench: Workbench) -> dict[str, RunError]:
    """Build what every stage needs, so that mistakes are reported before anything is written.

    Returns
    -------
    dict
        Stages in which a component fails before the training even starts, and how: only they and the stages that take
        a part of them are lost.

    Raises
    ------
    InputError
        if the recipe or the data are wrong, or no stage would be left.
    """
    check_metrics(bench)
    check_denoisers(bench)
    for stage in bench.recipe.stages:
        dataset = bench.dataset(stage)
        for split in stage.splits(bench.evaluated_splits(stage)):
            dataset.check_identities(dataset.cases(split))
        bench.augmentation(stage)
    broken: dict[str, RunError] = {}
    for stage in bench.recipe.stages:
        if (error := _check_stage(bench, stage)) is not None:
            broken[stage.name] = error
    bench.seen.check_all()
    check_seen_by_denoisers(bench)
    if broken and not _left(bench, broken):
        first = next(iter(broken.values()))
        raise InputError(first.what, first.where, first.hint) from first
    return broken


def _check_stage(bench: Workbench, stage: Stage) -> RunError | None:
    objective = bench.trained(stage)  # untrained here, as there is no folder yet
    check_turns(stage, objective)
    check_trainable(stage, objective)
    check_predicts(stage, objective)
    for name in getattr(objective, "needs", ()):
        if name not in bench.dataset(stage).fields:
            hint = f"write 'fields: [{name}]' there"
            raise InputError(f"stage '{stage.name}' needs '{name}' of every case", f"data.{stage.data}", hint)
    bench.cases.check_fraction(stage, objective)
    trainer = trainer_of(bench, stage, objective)
    trainer.check()
    try:
        trainer.rehearse()
    except RunError as error:
        return error
    return None


def _left(bench: Workbench, broken: Mapping[str, RunError]) -> bool:
    """Whether a stage is left that is not broken and takes nothing from one that is."""
    lost = set(broken)
    for stage in bench.recipe.stages:
        if stage.takes_from() & lost:
            lost.add(stage.name)
    return len(lost) < len(bench.recipe.stages)
