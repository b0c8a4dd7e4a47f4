"""What ``medkit check`` says before a run would find it out: pieces that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import medkit
from medkit.engine.settings import Criterion
from medkit.errors import InputError
from medkit.recipe import recipe_from
from medkit.recipe.blocks import Block
from medkit.recipe.json_schema import json_schema
from medkit.registry import Entry
from medkit.registry.plugins import registry
from medkit.registry.static import static_constant
from medkit.runs.checks import judged_number


def recipe(**stage: Any) -> dict[str, Any]:
    """A stage on phantoms with its variant, two metrics and a comparison."""
    return {
        "medkit": 1,
        "name": "small",
        "data": {
            "ct": {
                "source": {"use": "phantoms:head_ct"},
                "splits": {"train": {"fold": "train"}, "val": {"fold": "val"}, "test": {"fold": "test"}},
            }
        },
        "stages": [
            {
                "name": "segment",
                "objective": {
                    "use": "multitask",
                    "encoder": {"use": "timm", "model": "test_resnet"},
                    "heads": {"seg": {"use": "smartnet:scse_unet"}},
                },
                "metrics": ["dice", "auc"],
                "repeat": {"again": {}},
                **stage,
            }
        ],
        "report": {"compare": {"test": "paired_t", "metric": ["dice"]}},
    }


def problem(made: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        recipe_from(made)
    return str(caught.value)


VOLUME = {
    "use": "volume",
    "encoder": {"use": "timm", "model": "test_resnet"},
    "operator": "conv3d_segmenter",
    "losses": {"bce": "bce"},
}


def test_a_volume_objective_on_slices_is_refused_with_what_to_write() -> None:
    said = problem(recipe(objective=VOLUME))
    assert "stages.segment.unit: 'medkit:volume' does not train on unit 'slice'; write 'unit: volume'" in said


def test_an_objective_on_its_own_unit_is_taken() -> None:
    assert recipe_from(recipe(objective=VOLUME, unit="volume")).stages[0].unit == "volume"


@pytest.mark.parametrize(("name", "unit"), [("multitask", "slice"), ("volume", "volume"), ("restoration", "patch"), ("baselines:nnunet", "volume")])  # fmt: skip
def test_the_unit_is_read_from_the_source_of_the_class(name: str, unit: str) -> None:
    assert static_constant(registry().resolve("objective", name), "unit") == unit


def test_images_of_one_channel_are_not_given_to_an_encoder_of_three() -> None:
    made = recipe()
    made["stages"][0]["objective"]["encoder"]["in_channels"] = 3
    assert "have one channel, not 3" in problem(made)


def test_a_metric_to_compare_that_no_stage_has_is_refused() -> None:
    made = recipe()
    made["report"]["compare"]["metric"] = ["dicee"]
    assert "report.compare.metric: no metric of a stage is named 'dicee'; did you mean 'dice'?" in problem(made)


@pytest.mark.parametrize("key", ["compare", "maps", "tables", "splits"])
def test_null_leaves_a_part_of_the_report_out(key: str) -> None:
    made = recipe()
    made["report"][key] = None
    assert not getattr(recipe_from(made).report, key)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -float("inf")])
def test_a_number_that_is_none_is_refused(value: float) -> None:
    assert "finite" in problem(recipe(optim={"use": "adam", "lr": value}))


def test_a_value_of_a_hundred_kilobytes_is_not_echoed_whole() -> None:
    assert len(problem(recipe(batch="x" * 100_000))) < 2500


def test_a_reference_to_nothing_is_a_problem_and_no_crash() -> None:
    made = recipe()
    made["stages"][0]["objective"]["encoder"] = {"from": None}
    assert "is not STAGE.PART" in problem(made)
    made = recipe(name=None)
    assert "stages" in problem(made)


class Broken:
    """A component whose constructor has a fault of its own."""

    def __init__(self, size: int = 1) -> None:
        self.size = size + None  # type: ignore[operator]


def test_a_fault_inside_a_constructor_is_told_with_its_file_and_line() -> None:
    block = Block(Entry("encoder", "mine", "broken", f"{__name__}:Broken", ""), path="stages.s.objective.encoder")
    with pytest.raises(InputError, match=r"'mine:broken': TypeError: .*\(test_recipe_fits\.py:\d+\)") as caught:
        block.build()
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_metric_named_twice_is_refused() -> None:
    assert "metrics[1]: 'medkit:auc' is named twice" in problem(recipe(metrics=["auc", {"use": "auc"}, "dice"]))


def test_metrics_that_would_be_recorded_under_one_name_are_refused(tmp_path: Path) -> None:
    metrics = ["dice", {"use": "rmse", "window_width": 80}, {"use": "rmse", "window_width": 400}]
    with pytest.raises(InputError, match="two metrics are recorded as 'rmse_hu'"):
        medkit.run(recipe_from(recipe(metrics=metrics)), tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()


def test_the_epoch_is_chosen_by_the_metric_that_is_recorded_as_named() -> None:
    made = recipe(metrics=[{"use": "rmse", "window_width": 80}, "rmse", "dice"], keep_best={"metric": "rmse"})
    stage = recipe_from(made).stages[0]
    found = judged_number(stage, [block.build() for block in stage.metrics], "keep_best")
    assert found == Criterion("val/rmse", higher_is_better=False)


def shorthand() -> dict[str, Any]:
    made = recipe(unit="volume", schedule="cosine", optim="adam", objective={**VOLUME, "encoder": "identity"})
    made["data"]["ct"]["prepare"] = ["clahe"]
    made["data"]["ct"]["source"] = "phantoms:head_ct"
    made["report"] = None
    return made


def declaring() -> dict[str, Any]:
    """Classes of masks and labels of cases, as data blocks declare them."""
    made = recipe(
        objective=recipe()["stages"][0]["objective"] | {"heads": {"grade": "medkit:classification"}}, metrics=[]
    )
    made["data"]["ct"]["classes"] = {1: "oedema", 2: "bleed"}
    made["data"]["ct"]["labels"] = {"one_of": ["none", "mild"], "column": "grade"}
    made["report"] = None
    return made


@pytest.mark.parametrize("made", [recipe(), shorthand(), declaring()], ids=["written out", "short", "declared"])
def test_the_json_schema_takes_what_check_takes(made: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    recipe_from(made)
    jsonschema.validate(made, json_schema(registry()))


def test_the_json_schema_refuses_a_name_that_is_none() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(recipe(schedule="cosin"), json_schema(registry()))


@pytest.mark.parametrize("labels", [{"one_of": ["a", "b"], "unit": "mm"}, {"column": "grade"}, {"unit": 1}], ids=str)
def test_the_json_schema_refuses_labels_that_are_of_no_kind_or_of_two(labels: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    made = declaring()
    made["data"]["ct"]["labels"] = labels
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(made, json_schema(registry()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"medkit": True}, "format True is not known"),
        ({"report": {"maps": {"cases": -1}}}, "report.maps.cases"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(change: dict[str, Any], said: str) -> None:
    assert said in problem(recipe() | change)


def test_a_split_of_no_values_is_refused_with_its_column() -> None:
    made = recipe()
    made["data"]["ct"]["splits"]["val"] = {"fold": []}
    assert "data.ct.splits.val.fold: an empty list selects no case" in problem(made)


# -- slices and volumes --------------------------------------------------------------------------------------------

OF_VOLUMES = {"use": "resenc", "widths": [4, 8], "blocks": [1, 1]}
OF_SLICES = {"use": "timm", "model": "test_resnet"}


def parts(use: str, encoder: Any, head: str, **stage: Any) -> dict[str, Any]:
    made = recipe()
    objective = {"use": use, "encoder": encoder, "heads": {"seg": {"use": head}}}
    del made["report"], made["stages"][0]["repeat"]
    made["stages"][0] = {"name": "segment", "objective": objective, **stage}
    return made


@pytest.mark.parametrize(
    ("use", "encoder", "head", "stage", "message"),
    [
        ("multitask", OF_VOLUMES, "smartnet:scse_unet", {}, "'medkit:resenc' is for volumes"),
        ("multitask", OF_SLICES, "unet3d", {}, "'medkit:unet3d' is for volumes"),
        ("multitask3d", OF_SLICES, "unet3d", {"unit": "patch3d"}, "'medkit:timm' is for slices"),
        ("multitask3d", OF_VOLUMES, "unet3d", {}, "does not train on unit 'slice'"),
        (
            "multitask",
            OF_SLICES,
            "smartnet:scse_unet",
            {"unit": "patch", "patch_size": [4, 8, 8]},
            "patches of slices are",
        ),
    ],
)
def test_what_is_of_slices_and_of_volumes_does_not_go_together(use, encoder, head, stage, message):
    with pytest.raises(InputError) as caught:
        recipe_from(parts(use, encoder, head, **stage))
    assert message in str(caught.value)


def test_an_encoder_of_volumes_taken_from_a_stage_is_known_for_one():
    made = parts("multitask3d", OF_VOLUMES, "unet3d", unit="patch3d")
    taken = parts("multitask", {"from": "segment.encoder"}, "smartnet:scse_unet")["stages"][0]
    made["stages"].append({**taken, "name": "again"})
    with pytest.raises(InputError, match="'medkit:resenc' is for volumes"):
        recipe_from(made)
