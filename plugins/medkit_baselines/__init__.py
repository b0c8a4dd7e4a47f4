"""Methods that the thesis compares with, built from their papers' facts."""

from __future__ import annotations

from medkit.api import hookimpl


@hookimpl
def medkit_register(registry):
    registry.generator("red_cnn", "medkit_baselines.red_cnn:REDCNN", "RED-CNN for low-dose CT")
