"""Which trainer a stage has."""

from __future__ import annotations

from typing import Any

from medkit.recipe import Stage
from medkit.runs.built_in_trainer import BuiltInTrainer
from medkit.runs.external_trainer import ExternalTrainer
from medkit.runs.fitting_trainer import FittingTrainer
from medkit.runs.stage_trainer import StageTrainer
from medkit.runs.workbench import Workbench


def trainer_of(bench: Workbench, stage: Stage, objective: Any) -> StageTrainer:
    """The trainer of a stage's objective."""
    if getattr(objective, "external", False):
        return ExternalTrainer(bench, stage, objective)
    if getattr(objective, "fitted", False):
        return FittingTrainer(bench, stage, objective)
    return BuiltInTrainer(bench, stage, objective)
