"""Declared labels in recipes: what is refused by ``medkit check``, before any data is read."""

from __future__ import annotations

from typing import Any

import pytest

from medkit.errors import InputError
from medkit.recipe import recipe_from


def recipe(labels: Any, head: Any, *metrics: Any) -> Any:
    data: dict[str, Any] = {"source": {"use": "manifest", "path": "none.csv"}, "splits": {"train": {}}}
    data |= {} if labels is None else {"labels": labels}
    objective = {"use": "multitask", "encoder": {"use": "timm", "model": "test_resnet"}, "heads": {"h": head}}
    stage = {"name": "s", "objective": objective, "metrics": list(metrics)}
    return recipe_from({"medkit": 1, "name": "l", "data": {"d": data}, "stages": [stage]})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"one_of": ["a"], "column": "x"}, "1 classes are given, but 'one_of' has 2 to"),
        ({"one_of": ["a", "a"], "column": "x"}, "two classes are named 'a'"),
        ({"one_of": ["a b", "c"], "column": "x"}, "may have only letters, digits"),
        ({"one_off": ["a", "b"]}, "labels have no 'one_off'; did you mean 'one_of'"),
        ({"one_of": ["a", "b"], "unit": "mm"}, "they say one_of and unit"),
        ({"any_of": ["a", "b"]}, "any_of several classes needs its column"),
        ({"any_of": ["a", "b"], "column": ["x"]}, "1 columns are given for any of 2 classes"),
        ({"one_of": ["a", "b"], "column": ["x", "y"]}, "2 columns are given for one of 2 classes"),
        ({"unit": ""}, "'unit' is what measurements are in"),
        (["a", "b"], "labels are a mapping"),
    ],
)
def test_labels_that_mean_nothing_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        recipe(labels, {"use": "classification"})


@pytest.mark.parametrize(
    ("labels", "head", "metrics", "message"),
    [
        (None, {"use": "classification"}, [], "data block 'd' declares none; write there labels: {one_of:"),
        ({"unit": "mm"}, {"use": "classification"}, [], "those of data block 'd' are measurements; 'regression' does"),
        ({"any_of": ["a"], "column": "x"}, {"use": "ordinal"}, [], "are any_of; 'multilabel' does"),
        ({"unit": "mm"}, {"use": "regression"}, ["macro_auc"], "'medkit:macro_auc' takes labels that are one_of or"),
        ({"one_of": ["a", "b"]}, {"use": "classification"}, ["mae"], "'medkit:mae' takes labels that are measurements"),
    ],
)
def test_heads_and_metrics_of_other_labels_are_refused(
    labels: Any, head: Any, metrics: list[Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        recipe(labels, head, *metrics)


def test_what_labels_a_recipe_declares_is_kept_in_the_resolved_one() -> None:
    labels = {"one_of": {"No finding": "normal", "7": "fracture"}, "column": "x"}
    resolved = recipe(labels, {"use": "classification"}, "top1").resolved()
    assert resolved["data"]["d"]["labels"] == labels
    assert recipe_from(resolved).resolved() == resolved
    assert "labels" not in recipe(None, {"use": "smartnet:slice_class"}).resolved()["data"]["d"]
