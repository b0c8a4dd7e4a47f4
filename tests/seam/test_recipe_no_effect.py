"""Keys that would do nothing where they are written, or something else than they say, are refused with their place."""

from __future__ import annotations

from pathlib import Path

import pytest
from seam.test_recipe_errors import GOOD, problems

from medkit.errors import InputError
from medkit.recipe import load_recipe
from medkit.recipe.blocks import Block
from medkit.recipe.training import training_in_words
from medkit.recipe.turns import turns_of
from medkit.registry.plugins import forget, load_file, registry


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("name: other", "stages.segment.repeat.scratch.name: a variant is called by its key"),
        ("repeat: {a: {batch: 2}}", "stages.segment.repeat.scratch.repeat: a variant has no variants of its own"),
        ("repeat.a.batch: 2", "stages.segment.repeat.scratch.repeat.a.batch: a variant has no variants of its own"),
    ],
)
def test_a_variant_has_neither_a_name_nor_variants_of_its_own(tmp_path: Path, change: str, said: str) -> None:
    (only,) = problems(tmp_path, "{objective.encoder: {use: timm, model: test_resnet}}", f"{{{change}}}")
    assert only.startswith(f"r.yaml:25:24: {said}")


def test_a_head_is_not_named_as_the_sum_of_all_losses(tmp_path: Path) -> None:
    (only,) = problems(tmp_path, "        seg: {use:", "        loss: {use:")
    assert only.startswith(
        "r.yaml:15:9: stages.pretext.objective.heads: the sum of a stage's losses is recorded as 'loss'"
    )


def test_a_head_is_not_named_as_a_tie_between_two_others(tmp_path: Path) -> None:
    heads = "        seg: {use: dense_mask}\n        rec: {use: dense_mask}\n        seg-rec: {use: dense_mask}\n"
    tie = '      ties: [{use: "smartnet:consistency", between: [seg, rec]}]\n'
    found = problems(
        tmp_path,
        '        seg: {use: "smartnet:scse_unet", weight: 1.0}\n',
        heads.replace("dense_mask", '"smartnet:scse_unet"') + tie,
    )
    assert [text for text in found if "the tie between 'seg' and 'rec' is recorded as 'seg-rec'" in text]


def test_two_numbers_of_validation_are_not_recorded_as_one(tmp_path: Path) -> None:
    head = '{use: "smartnet:scse_unet"}'
    (only,) = problems(
        tmp_path, "        seg: {use:", f"        dice: {head}\n        dice_loss: {head}\n        seg: {{use:"
    )
    assert "the loss 'dice' is recorded as 'dice_loss' beside the metric of that name" in only


def test_a_split_to_validate_on_is_not_called_as_what_is_trained_on(tmp_path: Path) -> None:
    only, *_ = problems(tmp_path, "    unit: volume\n", "    unit: volume\n    train: val\n    validate: train\n")
    assert only.startswith("r.yaml:21:15: stages.segment.validate: what is validated would be recorded under")


@pytest.mark.parametrize(
    ("after", "key", "said"),
    [
        ("    batch: 2\n", "patches: 3", "stages.pretext.patches: whole slices are trained on"),
        ("    batch: 2\n", "patch_size: 32", "stages.pretext.patch_size: whole slices are trained on"),
        ("    unit: volume\n", "patches: 3", "stages.segment.patches: whole volumes are trained on"),
        ("    unit: volume\n", "draw: positive", "stages.segment.draw: whole volumes are trained on"),
    ],
)
def test_nothing_is_said_of_what_no_item_is_drawn_as(tmp_path: Path, after: str, key: str, said: str) -> None:
    only, *_ = problems(tmp_path, after, f"{after}    {key}\n")
    assert said in only


def test_the_defaults_of_patches_that_a_resolved_recipe_writes_out_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD.replace("    batch: 2\n", "    batch: 2\n    patches: 8\n    patch_size: 64\n"))
    assert load_recipe(path).stage("pretext").unit == "slice"


@pytest.mark.parametrize(
    ("steps", "refused"),
    [
        ("{use: window, low: 0, high: 80}, {use: window, low: 0, high: 80}", True),
        ("{use: window}, {use: window, low: 0, high: 80}", True),
        ("{use: min_max}, {use: windows, windows: [[0, 1], [0, 80]]}", True),
        ("{use: clip_percentiles}, {use: window}", True),
        ("{use: clip_percentiles, stretch: false}, {use: window}", False),
        ("{use: window, low: 0, high: 80}, {use: window, low: 0.2, high: 0.8}", False),
        ("{use: window, low: 0, high: 80}, {use: resize, size: [32, 32]}", False),
    ],
)
def test_a_window_of_images_that_are_in_0_to_1_already_has_such_ends(tmp_path: Path, steps: str, refused: bool) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD.replace("{use: window, low: 0, high: 80}", steps))
    if not refused:
        load_recipe(path)
        return
    with pytest.raises(InputError, match=r"r\.yaml:7:\d\d: data\.ich\.prepare: '.*' before it has brought images to"):
        load_recipe(path)


def test_a_part_that_is_never_opened_is_told_by_check(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        GOOD.replace("    batch: 2\n", "    batch: 2\n    epochs: 2\n    unfreeze: {part: encoder, after: 2}\n")
    )
    said = training_in_words(load_recipe(path).stage("pretext"))
    assert "'encoder' stays frozen: 'unfreeze' opens it after 2 epochs, and the stage has 2" in said


def test_patience_that_no_training_exhausts_is_told_by_check(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    stop = "    epochs: 2\n    early_stop: {metric: dice, patience: 2}\n"
    path.write_text(GOOD.replace("    batch: 2\n", f"    batch: 2\n{stop}"))
    assert "without a better dice on val (never: the stage has 2)" in training_in_words(
        load_recipe(path).stage("pretext")
    )


@pytest.mark.parametrize(
    ("added", "said"),
    [
        (
            "schedule: {trian: {use: cosine}}",
            "r.yaml:11:16: stages.pretext.schedule.trian: the objective has no turn 'trian'; did you mean 'train'?",
        ),
        (
            "optim: {train: {use: adam}, heads: {use: adam}}",
            "r.yaml:11:33: stages.pretext.optim.heads: the objective has no turn 'heads'; there are: train",
        ),
        (
            "unfreeze: {part: heads.sge}",
            "r.yaml:11:22: stages.pretext.unfreeze.part: the objective has no part 'heads.sge'; "
            "did you mean 'heads.seg'?",
        ),
    ],
)
def test_turns_and_parts_that_do_not_exist_are_told_with_their_place(tmp_path: Path, added: str, said: str) -> None:
    assert problems(tmp_path, "    batch: 2\n", f"    batch: 2\n    {added}\n") == [said]


PLUGIN = """
from medkit.api import hookimpl
from medkit.objectives.multitask import Multitask


class Teacher(Multitask):
    def parts(self):
        return {**super().parts(), "teacher": self.encoder}


@hookimpl
def medkit_register(registry):
    registry.objective("teacher", "two_parts:Teacher", "two names for one encoder")
"""


@pytest.mark.parametrize("key", ["unfreeze: {part: teacher}", "shard: {teacher: true}"])
def test_a_part_that_a_plugin_s_objective_adds_may_be_named(tmp_path: Path, key: str) -> None:
    (tmp_path / "two_parts.py").write_text(PLUGIN)
    load_file(tmp_path / "two_parts.py")
    try:
        path = tmp_path / "r.yaml"
        recipe = GOOD.replace("    batch: 2\n", f"    batch: 2\n    {key}\n")
        path.write_text(recipe.replace("use: multitask", "use: teacher"))
        load_recipe(path)
    finally:
        forget("two_parts")


@pytest.mark.parametrize(
    ("name", "turns"),
    [("multitask", ["train"]), ("distillation", ["train"]), ("adversarial", ["discriminator", "generator"])],
)
def test_the_turns_of_an_objective_are_read_from_its_source(name: str, turns: list[str]) -> None:
    assert turns_of(Block(registry().resolve("objective", name))) == turns
