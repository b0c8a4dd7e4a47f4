"""``report.tables``: what a layout may say, and where its mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from medkit.errors import InputError, Problems
from medkit.recipe import Recipe, load_recipe

HEAD = """\
medkit: 1
name: small
data:
  ich:
    source: {use: "phantoms:head_ct", patients: 6}
    splits: {train: {fold: train}, val: {fold: val}, test: {fold: test, center: A}, other: {center: B}}
stages:
  - name: classify
    objective:
      use: multitask
      encoder: {use: timm, model: test_resnet}
      heads: {cls: {use: slice_class}}
    metrics: [auc, {use: rmse, window_width: 80}]
    repeat: {scratch: {batch: 2}, frozen: {batch: 3}}
report:
  splits: [test]
  tables:
"""


def load(tmp_path: Path, table: str) -> Recipe:
    path = tmp_path / "r.yaml"
    path.write_text(HEAD + table)
    return load_recipe(path)


def mistakes(tmp_path: Path, table: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        load(tmp_path, table)
    found = caught.value.problems if isinstance(caught.value, Problems) else [caught.value]
    return [str(problem).replace(str(tmp_path / "r.yaml"), "r.yaml") for problem in found]


def test_names_may_be_a_list_or_a_mapping_to_what_is_printed(tmp_path: Path) -> None:
    (layout,) = load(
        tmp_path, "    - {title: T, stage: classify, rows: {scratch: From scratch, classify: Ours}, metrics: [auc]}\n"
    ).report.tables
    assert (layout.rows, layout.metrics) == ({"scratch": "From scratch", "classify": "Ours"}, {"auc": "auc"})


def test_rows_are_printed_in_the_order_they_are_written(tmp_path: Path) -> None:
    (layout,) = load(tmp_path, "    - {title: T, stage: classify, rows: [frozen, classify, scratch]}\n").report.tables
    assert list(layout.rows) == ["frozen", "classify", "scratch"]


def test_a_metric_that_lengthens_its_name_can_be_a_column(tmp_path: Path) -> None:
    (layout,) = load(tmp_path, "    - {title: T, stage: classify, metrics: [rmse_hu]}\n").report.tables
    assert list(layout.metrics) == ["rmse_hu"]


def test_a_resolved_recipe_keeps_its_tables(tmp_path: Path) -> None:
    recipe = load(tmp_path, "    - {title: T, stage: classify, rows: {scratch: S}, average: true, cost: true}\n")
    assert load_recipe(recipe.write(tmp_path / "resolved.yaml")).report.tables == recipe.report.tables


def test_the_title_names_a_file(tmp_path: Path) -> None:
    (layout,) = load(tmp_path, '    - {title: "Table 6: bleeds (CLS)", stage: classify}\n').report.tables
    assert layout.slug == "table_6_bleeds_cls"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            "    - {title: T, stage: classify, rows: {scrtch: S}}\n",
            "r.yaml:18:42: report.tables[0].rows: no row is named 'scrtch'; did you mean 'scratch'?",
        ),
        (
            "    - {title: T, stage: classify, metrics: [acu]}\n",
            "r.yaml:18:45: report.tables[0].metrics: no metric of the stage is named 'acu'; did you mean 'auc'?",
        ),
        (
            "    - {title: T, stage: classify, splits: [other]}\n",
            "r.yaml:18:44: report.tables[0].splits: no evaluated split is named 'other'; there are: test",
        ),
        (
            "    - {title: T, stage: clasify}\n",
            "r.yaml:18:25: report.tables[0].stage: no stage is named 'clasify'; did you mean 'classify'?",
        ),
        (
            "    - {title: T, stage: classify@scratch}\n",
            "r.yaml:18:25: report.tables[0].stage: no stage is named 'classify@scratch'; "
            "a table has all variants of a stage; name the stage",
        ),
        (
            "    - {title: T, stage: classify, layout: [auc]}\n",
            "r.yaml:18:35: report.tables[0].layout: unknown key; known keys: "
            "title, stage, rows, metrics, splits, average, cost",
        ),
        ("    - {title: T}\n", "r.yaml:18:7: report.tables[0]: 'stage' is missing"),
        (
            "    - {title: T, stage: classify, cost: sometimes}\n",
            "r.yaml:18:35: report.tables[0].cost: 'sometimes' is not bool (input should be a valid boolean)",
        ),
        (
            "    - {title: T, stage: classify, rows: scratch}\n",
            "r.yaml:18:35: report.tables[0].rows: a list, or a mapping of name to printed name, is expected here, "
            "not 'scratch'",
        ),
        (
            "    - {title: A b, stage: classify}\n    - {title: a-B, stage: classify}\n",
            "r.yaml:19:15: report.tables[1].title: two tables would be written as 'a_b'; give each a title of its own",
        ),
    ],
)
def test_a_mistake_is_told_with_place_and_help(tmp_path: Path, table: str, expected: str) -> None:
    assert mistakes(tmp_path, table) == [expected]
