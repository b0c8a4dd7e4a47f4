"""One column of results means one thing: names that are taken, and metrics measured in two ways, are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import run_command
from helpers import plugin_file, small_recipe, train

from medkit.errors import InputError
from medkit.recipe import Recipe, load_recipe, recipe_from
from medkit.runs.dry import dry_run

PLUGIN = Path(__file__).with_name("named_metric_plugin.py")


@pytest.fixture(scope="module", autouse=True)
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with plugin_file(PLUGIN, tmp_path_factory.mktemp("cache")):
        yield


def refused(recipe: Recipe) -> str:
    with pytest.raises(InputError) as caught:
        dry_run(recipe)
    return str(caught.value)


def named(*names: str, **stage: Any) -> Recipe:
    return small_recipe("t", metrics=["auc", *({"use": "named", "name": name} for name in names)], **stage)


@pytest.mark.parametrize("name", ["probability", "label", "patient", "case", "center", "image", "probability_SDH"])
def test_a_metric_that_would_overwrite_a_column_of_cases_csv_is_refused_by_a_run(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"it is recorded as '{name}', which is another column") as caught:
        train(named(name), tmp_path / "run")
    assert "stages.s.metrics[1]: metric 'named_metric_plugin:named'" in str(caught.value)
    assert f"give the metric another name, such as '{name}_score'" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_name_that_the_class_says_is_refused_by_check_already() -> None:
    with pytest.raises(InputError, match=r"metrics\[0\]: metric 'named_metric_plugin:center'.* recorded as 'center'"):
        small_recipe("t", metrics=[{"use": "named_metric_plugin:center"}])


def test_a_metric_without_a_name_is_refused() -> None:
    assert "has no name to be recorded under" in refused(named(" "))


def variant(first: dict[str, Any], second: dict[str, Any]) -> Recipe:
    """A stage with a metric, and a variant with the same metric and other arguments."""
    each = [{"use": "named_metric_plugin:named", **arguments} for arguments in (first, second)]
    return small_recipe("t", metrics=["auc", each[0]], repeat={"b": {"metrics": ["auc", each[1]]}})


def test_a_variant_measured_with_other_arguments_under_the_same_name_is_refused() -> None:
    said = refused(variant({"power": 1}, {"power": 2}))
    assert "stages.s@b.metrics[1]: 's' and 's@b' both record 'distance', measured with other arguments" in said
    assert "(power 1.0 and 2.0)" in said
    assert "give both the same arguments" in said


def test_arguments_that_the_name_says_and_defaults_that_are_written_out_are_no_others() -> None:
    for first, second in (({}, {"name": "far", "power": 2}), ({}, {"power": 1.0})):
        dry_run(variant(first, second))


def denoising(low: int, high: int) -> Recipe:
    made = load_recipe("tiny_ldct_mtdgan").resolved()
    made["data"]["ldct"]["prepare"] = [{"use": "window", "low": low, "high": high}]
    made["stages"][0]["metrics"] = [{"use": "rmse", "window_width": 80}]
    made["stages"], made["report"] = made["stages"][:1], {}
    return recipe_from(made)


def test_an_error_in_hu_of_another_window_than_that_of_the_images_is_refused() -> None:
    said = refused(denoising(0, 400))
    assert "window_width is 80, but the window of data block 'ldct' is 0 to 400; write 400" in said
    dry_run(denoising(-20, 60))


def test_compare_says_that_runs_were_measured_with_other_arguments(tmp_path: Path) -> None:
    for power in (1, 2):
        metric = {"use": "named_metric_plugin:named", "name": "named", "power": power}
        train(small_recipe("t", metrics=["auc", metric]), tmp_path / f"run{power}")
    done = run_command(("compare", tmp_path / "run1", tmp_path / "run2"), tmp_path, {"COLUMNS": "200"})
    told = "note: of stage 's' in run1 and run2, 'named' was measured with other arguments (power 1.0 and 2.0)"
    assert told in done.stdout, done.stderr
