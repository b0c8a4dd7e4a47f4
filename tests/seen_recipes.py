"""Recipes of seconds for tests of who was seen: stages on phantoms of a few patients, some of whom overlap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import train

import medkit
from medkit.errors import InputError
from medkit.recipe import recipe_from

REASON = "the pretext has no labels & it is a trial"
PHANTOMS = {"use": "phantoms:head_ct", "patients": 6, "size": [32, 32], "slices": 4, "centers": ["A"]}


def block(source: dict[str, Any] = PHANTOMS, **splits: dict[str, Any]) -> dict[str, Any]:
    own = {"train": {"fold": "train"}, "val": {"fold": "val"}, "internal": {"fold": "test"}}
    return {"source": source, "splits": splits or own, "prepare": [{"use": "window", "low": 0, "high": 80}]}


def stage(name: str, encoder: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    encoder = encoder or {"use": "timm", "model": "test_resnet", "in_channels": 1}
    objective = {"use": "multitask", "encoder": encoder, "heads": {"cls": {"use": "smartnet:slice_class"}}}
    return {"name": name, "batch": 4, "data": "d", "objective": objective, "metrics": ["auc"], **keys}


def recipe(*stages: dict[str, Any], report: dict[str, Any] | None = None, **data: dict[str, Any]) -> dict[str, Any]:
    blocks = {"d": block(), **data}
    report = {"splits": ["internal"], "maps": {"cases": 0}, **(report or {})}
    return {"medkit": 1, "name": "t", "seed": 1, "data": blocks, "stages": list(stages), "report": report}


def chain(other: dict[str, Any], **report: Any) -> dict[str, Any]:
    """A pretext on another data block, and a stage on block 'd' that takes its encoder."""
    pretext = stage("pretext", data="e", validate=None, evaluate=[], metrics=[])
    return recipe(pretext, stage("classify", {"from": "pretext.encoder"}), e=other, report=report)


def refused(plain: dict[str, Any], out: Path) -> str:
    with pytest.raises(InputError) as caught:
        medkit.run(recipe_from(plain), out, device="cpu", quiet=True)
    assert not out.exists()
    return str(caught.value)


def reported(plain: dict[str, Any], out: Path) -> Path:
    return medkit.run(recipe_from(plain), out, device="cpu", quiet=True).folder


def run(plain: dict[str, Any], out: Path) -> Path:
    return train(recipe_from(plain), out, device="cpu", quiet=True).folder


def weights(folder: Path, name: str = "weights/first.encoder") -> dict[str, Any]:
    """An encoder that starts from weights of a run."""
    path = folder / f"{name}.safetensors"
    return {"use": "timm", "model": "test_resnet", "in_channels": 1, "weights": str(path)}
