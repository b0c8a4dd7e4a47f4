"""What tests of several areas share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom

from medkit.recipe import Recipe, recipe_from


def edit_dicom(path: Path, **tags: object) -> None:
    """Change tags of a DICOM file; None removes one."""
    data = pydicom.dcmread(path)
    for name, value in tags.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.save_as(path)


def small_recipe(name: str, report: dict[str, Any] | None = None, **stage: Any) -> Recipe:
    """One stage that classifies slices of six phantoms of 32 x 32 x 4, with ``auc``; keys of the stage as keywords."""
    source = {"use": "phantoms:head_ct", "patients": 6, "size": [32, 32], "slices": 4}
    splits = {split: {"fold": split} for split in ("train", "val", "test")}
    encoder = {"use": "timm", "model": "test_resnet"}
    objective = {"use": "multitask", "encoder": encoder, "heads": {"cls": {"use": "smartnet:slice_class"}}}
    data = {"source": source, "splits": splits, "prepare": [{"use": "window", "low": 0, "high": 80}]}
    made = {"name": "s", "batch": 4, "objective": objective, "metrics": ["auc"], **stage}
    return recipe_from({"medkit": 1, "name": name, "data": {"d": data}, "stages": [made], "report": report or {}})
