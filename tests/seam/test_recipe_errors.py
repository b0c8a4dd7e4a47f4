"""Mistakes in recipes: all told at once, with file, line, column and the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from medkit.errors import InputError, Problems
from medkit.recipe import bundled, load_recipe, recipe_from
from medkit.recipe.training import training_in_words
from medkit.recipe.yaml import ENV

GOOD = """\
medkit: 1
name: small
data:
  ich:
    source: {use: "phantoms:head_ct", patients: 6}
    splits: {train: {fold: train}, val: {fold: val}, test: {fold: test}}
    prepare: [{use: window, low: 0, high: 80}]
stages:
  - name: pretext
    batch: 2
    objective:
      use: multitask
      encoder: {use: timm, model: test_resnet}
      heads:
        seg: {use: "smartnet:scse_unet", weight: 1.0}
    metrics: [dice]
    keep_best: {metric: dice, split: val}
  - name: segment
    unit: volume
    objective:
      use: volume
      encoder: {from: pretext.encoder}
      operator: {use: conv3d_segmenter}
      losses: {bce: {use: bce}}
    repeat: {scratch: {objective.encoder: {use: timm, model: test_resnet}}}
report: {splits: [test]}
"""


def problems(tmp_path: Path, old: str = "", new: str = "", *sets: str) -> list[str]:
    assert old in GOOD
    path = tmp_path / "r.yaml"
    path.write_text(GOOD.replace(old, new, 1) if old else GOOD)
    with pytest.raises(InputError) as caught:
        load_recipe(path, set=sets)
    found = caught.value.problems if isinstance(caught.value, Problems) else [caught.value]
    return [str(problem).replace(str(path), "r.yaml") for problem in found]


def test_the_recipe_that_the_mistakes_are_made_in_is_good(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    assert [stage.name for stage in load_recipe(path).stages] == ["pretext", "segment", "segment@scratch"]


def test_unknown_component_names_the_place_and_the_nearest_name(tmp_path: Path) -> None:
    assert problems(tmp_path, "smartnet:scse_unet", "scse_unett") == [
        "r.yaml:15:20: stages.pretext.objective.heads.seg: no pretext is named 'scse_unett'; "
        "did you mean 'smartnet:scse_unet'?"
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("batch: 2", "batch: two", "r.yaml:10:5: stages.pretext.batch: 'two' is not int > 0"),
        ("batch: 2", "batch: 0", "r.yaml:10:5: stages.pretext.batch: 0 is not int > 0"),
        ("batch: 2", "bacth: 2", "r.yaml:10:5: stages.pretext.bacth: unknown key; did you mean 'batch'?"),
        ("medkit: 1", "medkit: 2", "r.yaml:1:9: medkit: format 2 is not known here"),
        (
            "model: test_resnet",
            "modle: test_resnet",
            "'medkit:timm' takes no argument of that name; did you mean 'model'?",
        ),
        ('use: "smartnet:scse_unet"', "use: bce", "no pretext is named 'bce'; 'bce' is a loss, not a pretext"),
        (
            "from: pretext.encoder",
            "from: pretxt.encoder",
            "no earlier stage is named 'pretxt'; did you mean 'pretext'?",
        ),
        (
            "from: pretext.encoder",
            "from: pretext.encodr",
            "stage 'pretext' has no part 'encodr'; did you mean 'encoder'?",
        ),
        ("from: pretext.encoder", "from: pretext.heads.seg", "'heads.seg' is a pretext, not a encoder"),
        ("splits: [test]", "splits: [tets]", "report.splits: no split is named 'tets'; did you mean 'test'?"),
        ("split: val}", "split: vla}", "no split is named 'vla'"),
        ("metric: dice, split", "metric: dise, split", "no metric is named 'dise'; the stage's metrics: dice"),
        ("low: 0", "low: zero", "'zero' is not float"),
        ("name: small", "name: small\nname: again", "'name' is written twice; first at line 2"),
        ("name: small", "name: !!python/object:os.system x", "the tag"),
        ("patients: 6", 'patients: "${NOT_SET_ANYWHERE}"', "the environment variable NOT_SET_ANYWHERE is not set"),
        ("name: small", "<<: {a: 1}", "merge keys are not allowed"),
    ],
)
def test_mistakes_are_told_with_place_and_help(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert any(expected in problem for problem in problems(tmp_path, old, new))


def test_several_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        GOOD.replace("batch: 2", "batch: -1").replace("use: window", "use: windw").replace("[dice]", "[dic]")
    )
    with pytest.raises(Problems) as caught:
        load_recipe(path)
    assert len(caught.value.problems) >= 3


def test_numbers_and_words_are_read_by_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        GOOD.replace("batch: 2", "optim: {use: adam, lr: 1e-4}\n    batch: 2").replace("name: small", "name: on")
    )
    recipe = load_recipe(path)
    assert recipe.name == "on"
    assert recipe.stages[0].optim.arguments["lr"] == 1e-4  # type: ignore[union-attr]


def test_overrides_change_stages_by_name(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    recipe = load_recipe(path, set=["stages.pretext.epochs=7", "data.ich.source.patients=9", "seed=3"])
    assert recipe.stage("pretext").epochs == 7
    assert recipe.data["ich"].source.arguments["patients"] == 9
    assert recipe.seed == 3


def test_an_override_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    found = problems(tmp_path, "", "", "stages.pretex.epochs=7")
    assert found == ["--set stages.pretex.epochs=7: 'stages' has no entry 'pretex'; did you mean 'pretext'?"]


def test_an_override_of_an_unknown_key_names_the_override(tmp_path: Path) -> None:
    found = problems(tmp_path, "", "", "stages.pretext.epoch=7")
    assert found == ["--set stages.pretext.epoch=7: stages.pretext.epoch: unknown key; did you mean 'epochs'?"]


def test_a_resolved_recipe_loads_back_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    recipe = load_recipe(path)
    again = load_recipe(recipe.write(tmp_path / "resolved.yaml"))
    assert again.resolved() == recipe.resolved()
    assert again.stages[0].objective.name == "medkit:multitask"


def test_a_recipe_made_in_python_is_checked_like_a_file() -> None:
    with pytest.raises(InputError, match="'stages' is missing"):
        recipe_from({"medkit": 1, "name": "x", "data": {}})


@pytest.mark.parametrize("name", [name for name, _ in bundled()])
def test_bundled_recipes_are_well_formed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ENV.findall(dict(bundled())[name].read_text()):
        monkeypatch.setenv(variable, "somewhere")
    assert load_recipe(name).name.endswith(name.rsplit("/", 1)[-1])


def test_an_unknown_bundled_name_is_helped() -> None:
    with pytest.raises(InputError, match="did you mean 'ich_seg'"):
        load_recipe("ich_sge")


@pytest.mark.parametrize(
    ("assignment", "hint"),
    [
        ('stages.pretext.epochs="12"', "write 12"),
        ("stages.pretext.epochs=1_000", "write 1000"),
        ("stages.pretext.epochs=1e3", "write 1000"),
        ('data.ich.prepare.0.low="-1e-1"', "it is text: write -1e-1, without quotes"),
    ],
)
def test_a_number_given_as_text_or_fraction_is_told_how_it_is_written(
    tmp_path: Path, assignment: str, hint: str
) -> None:
    (only,) = problems(tmp_path, "", "", assignment)
    assert only.endswith(f"; {hint}")


@pytest.mark.parametrize("value", ["2.5", "many", "[1]", "true"])
def test_what_is_no_number_is_not_told_how_it_is_written(tmp_path: Path, value: str) -> None:
    (only,) = problems(tmp_path, "", "", f"stages.pretext.epochs={value}")
    assert "write" not in only


def test_nothing_in_place_of_a_number_is_called_what_a_recipe_calls_it(tmp_path: Path) -> None:
    (only,) = problems(tmp_path, "", "", "stages.pretext.epochs=")
    assert "null is not int > 0" in only


def test_a_tab_is_told_to_be_spaces(tmp_path: Path) -> None:
    (only,) = problems(tmp_path, "data:\n  ich:", "data:\n\tich:")
    assert only.endswith("indent with spaces")


@pytest.mark.parametrize("low", ["100", "80"])
def test_a_window_whose_low_end_is_not_below_its_high_one_is_refused(tmp_path: Path, low: str) -> None:
    assert problems(tmp_path, "", "", f"data.ich.prepare.0.low={low}") == [
        f"r.yaml:7:37: data.ich.prepare[0]: 'low' ({low}) is not below 'high' (80)"
    ]


def test_an_end_that_is_not_given_has_its_default(tmp_path: Path) -> None:
    (only,) = problems(tmp_path, "{use: window, low: 0, high: 80}", "{use: window, low: 90}")
    assert "'low' (90) is not below 'high' (80)" in only


def test_what_follows_from_missing_splits_is_not_told(tmp_path: Path) -> None:
    assert problems(tmp_path, "splits: {train:", "split: {train:") == [
        "r.yaml:6:5: data.ich.split: unknown key; did you mean 'splits'?",
        "r.yaml:5:5: data.ich: 'splits' is missing",
    ]


def test_no_split_at_all_is_told_once(tmp_path: Path) -> None:
    old = "{train: {fold: train}, val: {fold: val}, test: {fold: test}}"
    assert problems(tmp_path, old, "{}") == ["r.yaml:6:5: data.ich.splits: no split is given"]


def test_a_split_that_decides_the_epoch_but_is_not_validated_on_is_told_with_the_key(tmp_path: Path) -> None:
    (only,) = problems(tmp_path, "    metrics: [dice]", "    validate: null\n    metrics: [dice]")
    assert only.endswith("the stage does not validate on 'val', nor on any other split; write 'validate: val'")


def test_a_split_that_decides_the_epoch_but_does_not_exist_is_told_once(tmp_path: Path) -> None:
    (only,) = problems(tmp_path, "split: val}", "split: vla}")
    assert only.endswith("stages.pretext.keep_best: no split is named 'vla'; did you mean 'val'?")


def test_a_key_of_a_variant_is_told_where_it_is(tmp_path: Path) -> None:
    (only,) = problems(tmp_path, "", "", "stages.segment@scratch.epochs=3")
    assert only.endswith("a variant's keys are below stages.segment.repeat.scratch")


def test_a_problem_that_is_found_several_times_is_told_once() -> None:
    same = [InputError("a is not b", "r.yaml:1:1"), InputError("a is not b", "r.yaml:1:1"), InputError("c", "r.yaml")]
    assert len(Problems(same).json()) == 2


@pytest.mark.parametrize("name", ["", " "])
def test_no_recipe_is_not_the_current_folder(name: str) -> None:
    with pytest.raises(InputError, match="no recipe is given"):
        load_recipe(name)


def test_a_warm_up_that_outlasts_the_stage_is_said(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    sets = ["stages.pretext.epochs=4", "stages.pretext.schedule={use: cosine, warmup: 5}"]
    stage = load_recipe(path, set=sets).stages[0]
    assert "cosine (the warm-up of 5 epochs outlasts the 4 of the stage)" in training_in_words(stage)
