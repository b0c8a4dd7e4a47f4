"""Label-free pretexts through the front door: all nine train; a teacher is taken as it was saved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import train

import medkit
from medkit.engine.checkpoint import read_tensors
from medkit.errors import Problems
from medkit.recipe import recipe_from
from medkit.runs.folder import RunFolder
from medkit.runs.workbench import Workbench

OPTIONS = {"device": "cpu", "quiet": True}
NAMES = ("rotation", "jigsaw", "simmim", "mae", "simclr", "vicreg", "moco", "byol", "dino")
JOINT = ("simclr", "vicreg", "moco", "byol", "dino")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("ssl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(made / "cache"))
        yield made


@pytest.fixture(scope="module")
def run(cache: Path) -> Path:
    """The run of the nine."""
    train("tiny_ssl", cache / "run", **OPTIONS)
    return cache / "run"


def lines(run: Path, stage: str) -> list[dict]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["stage"] == stage]


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_a_pretext_falls(run, name):
    values = [line[f"train/{name}"] for line in lines(run, "pretext" if name == "rotation" else f"pretext@{name}")]
    assert min(values[-2:]) < 0.97 * values[0]


@pytest.mark.parametrize("name", JOINT)
def test_a_joint_embedding_tells_how_far_it_spreads(run, name):
    spreads = [line[f"train/{name}_spread"] for line in lines(run, f"pretext@{name}")]
    assert all(0.01 < value <= 1.01 for value in spreads)


@pytest.mark.parametrize("name", ["moco", "byol", "dino"])
def test_student_and_teacher_are_saved_and_differ(run, name):
    student, teacher = (
        read_tensors(run / "weights" / f"pretext@{name}.{part}.safetensors")[0]
        for part in ("encoder", "teacher.encoder")
    )
    assert student.keys() == teacher.keys()
    assert any(not torch.equal(student[key], teacher[key]) for key in student)


def test_a_later_stage_takes_the_teacher_by_its_name(cache):
    """With the three heads of SMART-Net and their tie beside DINO in one stage."""
    train("tiny_ssl_smartnet", cache / "both", **OPTIONS)
    (first, *_) = lines(cache / "both", "pretext")
    assert [f"train/{name}" in first for name in ("dino", "cls", "seg", "rec", "cls-seg")] == [True] * 5
    assert {"val/auc", "val/dice", "val/dino"} <= first.keys()
    recipe = medkit.load_recipe(cache / "both" / "recipe.yaml")
    from medkit.engine.runtime import Runtime

    bench = Workbench(recipe, Runtime(torch.device("cpu")), RunFolder(cache / "both"))
    taken = bench.part("pretext", "teacher.encoder").state_dict()
    saved = read_tensors(cache / "both" / "weights" / "pretext.teacher.encoder.safetensors")[0]
    assert all(torch.equal(taken[name], saved[name]) for name in saved)


def test_parts_that_a_distillation_has_not_are_refused_before_any_data_is_read():
    encoder = {"use": "timm", "model": "test_resnet"}
    data = {"source": {"use": "phantoms:head_ct"}, "splits": {"train": {"fold": "train"}}, "views": VIEWS}
    distil = {"use": "distillation", "encoder": encoder, "distil": {"byol": {"use": "ssl:byol"}}}
    later = {"use": "multitask", "encoder": {"from": "a.teacher.decoder"}, "heads": {"cls": {"use": "slice_class"}}}
    stages = [{"name": "a", "objective": distil}, {"name": "b", "objective": later}]
    with pytest.raises(Problems, match=r"stage 'a' has no part 'teacher\.decoder'") as found:
        recipe_from({"medkit": 1, "name": "r", "data": {"d": data}, "stages": stages})
    assert "teacher.encoder" in str(found.value)


def test_a_distilling_head_among_pretext_heads_is_refused_with_what_it_is():
    encoder = {"use": "timm", "model": "test_resnet"}
    data = {"source": {"use": "phantoms:head_ct"}, "splits": {"train": {"fold": "train"}}, "views": VIEWS}
    objective = {"use": "multitask", "encoder": encoder, "heads": {"byol": {"use": "ssl:byol"}}}
    with pytest.raises(Problems, match="'ssl:byol' is a distiller, not a pretext"):
        recipe_from({"medkit": 1, "name": "r", "data": {"d": data}, "stages": [{"name": "a", "objective": objective}]})


VIEWS = {"count": 2, "augment": [{"use": "horizontal_flip"}]}
