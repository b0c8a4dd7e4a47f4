"""Classes of masks in recipes: what reads masks and does not know of classes is refused by ``check``."""

from __future__ import annotations

from typing import Any

import pytest

from medkit.errors import Problems
from medkit.recipe import Recipe, recipe_from

ENCODER = {"use": "timm", "model": "test_resnet"}
TWO = {"1": "liver", "2": "tumour"}


def recipe(classes: Any, objective: dict[str, Any], unit: str = "slice") -> Recipe:
    data = {"source": {"use": "phantoms:head_ct"}, "splits": {"train": {}}, "classes": classes}
    stages = [{"name": "s", "unit": unit, "objective": objective}]
    return recipe_from({"medkit": 1, "name": "r", "data": {"d": data}, "stages": stages})


def heads(**more: Any) -> dict[str, Any]:
    two = {"seg": {"use": "smartnet:scse_unet"}, "cls": {"use": "smartnet:slice_class"}}
    return {"use": "multitask", "encoder": ENCODER, "heads": two, **more}


def volume(**losses: Any) -> dict[str, Any]:
    operator = {"use": "smartnet:conv3d_segmenter"}
    return {"use": "volume", "encoder": ENCODER, "operator": operator, "losses": losses}


def problem(*arguments: Any) -> str:
    with pytest.raises(Problems) as caught:
        recipe(*arguments)
    return str(caught.value)


def test_classes_come_back_from_a_resolved_recipe():
    for classes in (TWO, ["liver", "tumour"]):
        made = recipe(classes, heads())
        assert recipe_from(made.resolved()) == made
        assert made.resolved()["data"]["d"]["classes"] == classes


def test_a_recipe_without_classes_does_not_say_them():
    assert "classes" not in recipe(None, heads()).resolved()["data"]["d"]


def test_heads_get_the_classes_of_their_data_block():
    made = recipe(TWO, heads())
    head = made.stages[0].objective.build(data=made.data["d"]).heads["seg"]
    assert head.head.out_channels == 3


@pytest.mark.parametrize(
    ("objective", "unit", "name"),
    [
        (volume(bce={"use": "bce"}), "volume", "medkit:bce"),
        (volume(dice={"use": "dice"}), "volume", "medkit:dice"),
        (heads(ties=[{"use": "mse", "between": ["cls", "seg"]}]), "slice", "medkit:mse"),
        ({"use": "baselines:nnunet"}, "volume", "baselines:nnunet"),
        ({"use": "probe", "encoder": ENCODER, "target": "mask", "classifier": "linear"}, "slice", "medkit:probe"),
    ],
)
def test_what_does_not_know_of_classes_is_refused_by_name(objective: dict[str, Any], unit: str, name: str):
    assert f"'{name}' does not know of classes" in problem(TWO, objective, unit)


def test_classes_with_gaps_are_refused():
    assert "without gaps, not 1, 3" in problem({"1": "a", "3": "b"}, heads())


def test_a_name_that_cannot_be_a_column_is_refused():
    assert "may have only letters" in problem({"1": "left/right"}, heads())
