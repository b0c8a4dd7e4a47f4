"""What a head asks of its encoder beyond channels and strides is looked up before a run builds anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medkit.errors import InputError
from medkit.recipe import recipe_from

MAE = {"mae": {"use": "ssl:mae"}}


def recipe(encoder: dict[str, Any], heads: dict[str, Any] | None = None) -> dict[str, Any]:
    def stage(name: str, encoder: dict[str, Any], heads: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "objective": {"use": "multitask", "encoder": encoder, "heads": heads}}

    return {
        "medkit": 1,
        "name": "small",
        "data": {"ct": {"source": {"use": "phantoms:head_ct"}, "splits": {"train": {"fold": "train"}}}},
        "stages": [
            stage("first", encoder, {"rotation": {"use": "ssl:rotation"}}),
            stage("second", {"from": "first.encoder"}, heads or MAE),
        ],
    }


def problem(made: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        recipe_from(made)
    return str(caught.value)


def test_a_head_that_needs_tokens_is_refused_beside_an_encoder_without() -> None:
    said = problem(recipe({"use": "timm", "model": "test_resnet"}))
    assert "stages.second.objective.heads.mae: 'ssl:mae' needs the patch of the encoder" in said
    assert "'medkit:timm' has none (model: test_resnet)" in said


def test_a_head_that_needs_tokens_is_taken_beside_a_vision_transformer() -> None:
    assert len(recipe_from(recipe({"use": "timm", "model": "test_vit"})).stages) == 2


def test_looking_for_tokens_reads_no_weights_and_fetches_none(tmp_path: Path) -> None:
    for weights in (str(tmp_path / "none.safetensors"), "hub:"):
        assert recipe_from(recipe({"use": "timm", "model": "test_vit", "weights": weights}))


def test_a_model_that_timm_does_not_have_is_told_where_tokens_are_looked_for() -> None:
    assert "timm has no model named 'test_vitt'" in problem(recipe({"use": "timm", "model": "test_vitt"}))
