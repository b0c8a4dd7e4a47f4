"""Experiment trackers: listeners that a run gets by ``--track``. Each needs its own library (an extra)."""

from __future__ import annotations

from typing import Any

from medkit.api import hookimpl


@hookimpl
def medkit_register(registry: Any) -> None:
    r = registry
    r.tracker("tensorboard", "medkit_trackers.tensorboard:TensorBoard", "event files in the run folder")
    r.tracker("mlflow", "medkit_trackers.mlflow:MLflow", "a SQLite store in the run folder, or MLFLOW_TRACKING_URI")
    r.tracker("wandb", "medkit_trackers.wandb:Wandb", "Weights & Biases, offline unless WANDB_MODE says so")
    r.tracker("trackio", "medkit_trackers.trackio:Trackio", "trackio's local store, unless TRACKIO_SPACE_ID is set")
