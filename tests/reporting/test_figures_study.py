"""Pictures of a study: every method, fraction and effect is in them, and nothing is drawn of nothing."""

from __future__ import annotations

import base64
import math

import pytest

from medkit.reporting.figures_study import Effect, cost_bars, forest, label_curves, seed_dots

CURVES = {
    "scratch": {0.01: [0.5, 0.52, 0.6], 0.1: [0.6, 0.7], 1.0: [0.8]},
    "ssl:mae": {0.01: [0.7, 0.72, 0.75], 1.0: [0.81, 0.82, 0.84]},
}
EFFECTS = [
    Effect("mae", 0.1, 0.05, 0.15, "1 %"),
    Effect("dino and friends", -0.01, -0.05, 0.03, "1 %"),
    Effect("mae", 0.02, math.nan, math.nan, "100 %"),
]


def svg(image: str) -> str:
    """The text of an inline picture, in which labels are text."""
    kind, _, content = image.partition(",")
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(content).decode()


def test_label_curves_name_methods_and_fractions() -> None:
    text = svg(label_curves(CURVES, "AUC"))
    for word in ("scratch", "ssl:mae", "1 %", "10 %", "100 %", "AUC"):
        assert f">{word}</text>" in text


def test_a_forest_has_a_line_for_each_effect_under_its_group() -> None:
    text = svg(forest(EFFECTS, "AUC minus scratch"))
    assert [text.count(f">{word}</text>") for word in ("mae", "dino and friends", "1 %", "100 %")] == [2, 1, 1, 1]


def test_seed_dots_name_groups_and_methods() -> None:
    text = svg(seed_dots({"1 %": {"a": [0.1, 0.2], "b": [0.3]}, "100 %": {"a": [0.5]}}, "Dice"))
    for word in ("1 %", "100 %", "a", "b", "Dice"):
        assert f">{word}</text>" in text


@pytest.mark.parametrize(("longest", "unit"), [(50.0, "s"), (600.0, "min"), (30_000.0, "h")])
def test_costs_are_shown_in_a_unit_that_fits(longest: float, unit: str) -> None:
    assert f"({unit})" in svg(cost_bars({"a": (longest / 2, longest), "b": (1.0, 1.0)}))


def test_more_methods_than_colours_differ_in_their_marks() -> None:
    many = {f"m{i}": {0.1: [0.5], 1.0: [0.6 + i / 100]} for i in range(14)}
    text = svg(label_curves(many, "AUC"))
    assert all(f">m{i}</text>" in text for i in range(14))


def test_a_dot_is_filled_where_a_difference_is_shown_and_not_where_an_interval_leaves_out_zero() -> None:
    found = [forest([Effect("a", 0.1, 0.05, 0.15, shown=shown)], "x") for shown in (False, True)]
    assert [svg(image).count("fill: #ffffff; stroke: #3b7dd8") for image in found] == [1, 0]


def test_nothing_is_drawn_of_nothing() -> None:
    assert label_curves({"a": {1.0: [0.5]}}, "AUC") == ""
    assert forest([Effect("a", math.nan, math.nan, math.nan)], "x") == ""
    assert seed_dots({}, "x") == ""
    assert cost_bars({}) == ""
