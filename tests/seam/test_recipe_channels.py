"""Channels of images against what networks take: settled or refused by ``check``, before any image is read."""

from __future__ import annotations

from typing import Any

import pytest

from medkit.errors import Problems
from medkit.recipe import Recipe, recipe_from

TWO = [{"use": "windows", "windows": [[0, 80], [-20, 180]]}]
ENCODER = {"use": "timm", "model": "test_resnet"}


def recipe(prepare: list[Any], *objectives: dict[str, Any], **source: Any) -> Recipe:
    data = {"source": source or {"use": "phantoms:head_ct"}, "splits": {"train": {}}, "prepare": prepare}
    stages = [{"name": f"s{i}", "objective": objective} for i, objective in enumerate(objectives)]
    return recipe_from({"medkit": 1, "name": "r", "data": {"d": data}, "stages": stages})


def multitask(
    encoder: dict[str, Any] = ENCODER, head: str = "smartnet:slice_class", **arguments: Any
) -> dict[str, Any]:
    return {"use": "multitask", "encoder": encoder, "heads": {"h": {"use": head, **arguments}}}


def problem(*arguments: Any, **source: Any) -> str:
    with pytest.raises(Problems) as caught:
        recipe(*arguments, **source)
    return str(caught.value)


def test_networks_take_as_many_channels_as_the_data_have():
    made = recipe([*TWO, {"use": "neighbours"}], multitask(head="smartnet:pixel_shuffle")).stages[0].objective
    assert made.arguments["encoder"].arguments["in_channels"] == 6
    assert made.arguments["heads"]["h"].arguments["image_channels"] == 6


def test_files_of_a_case_count_as_channels():
    made = recipe([], multitask(), use="manifest", path="there_is_none.csv", image=["t1", "flair", "t2"])
    assert made.stages[0].objective.arguments["encoder"].arguments["in_channels"] == 3


def test_another_number_of_channels_is_refused():
    assert "images of data block 'd' have 2 channels, not 1" in problem(TWO, multitask({**ENCODER, "in_channels": 1}))


def test_a_head_that_makes_other_images_is_refused():
    assert "have 2 channels, not 1" in problem(TWO, multitask(head="smartnet:pixel_shuffle", image_channels=1))


def test_a_network_of_one_channel_is_refused_by_name():
    objective = {"use": "restoration", "generator": {"use": "baselines:red_cnn"}, "losses": {"mse": {"use": "mse"}}}
    assert "'baselines:red_cnn' takes images of one channel" in problem(TWO, objective)


def test_an_encoder_trained_on_other_channels_is_refused():
    taken = multitask({"from": "a.encoder"})
    stages = [{"name": "a", "data": "one", "objective": multitask()}, {"name": "b", "data": "two", "objective": taken}]
    block = {"source": {"use": "phantoms:head_ct"}, "splits": {"train": {}}}
    data = {"one": block, "two": {**block, "prepare": TWO}}
    with pytest.raises(Problems, match=r"'a\.encoder' was trained on 1"):
        recipe_from({"medkit": 1, "name": "r", "data": data, "stages": stages})


def test_windows_after_other_channels_are_refused():
    assert "needs an image of one channel" in problem([{"use": "neighbours"}, *TWO], multitask())


def test_a_step_that_fails_to_build_is_told_with_its_place():
    assert "high end" in problem([{"use": "windows", "windows": [[80, 0]]}], multitask())
