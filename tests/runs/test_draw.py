"""Which slices a stage trains on is decided by what it reads, or by its recipe, and said wherever results are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

import medkit
from medkit.engine.runtime import Runtime
from medkit.errors import Problems
from medkit.objectives.common import Watched
from medkit.recipe import Recipe, recipe_from
from medkit.runs.workbench import Workbench

UNIFORM, POSITIVE = "every slice of a case is equally likely", "gives the slice of a random positive voxel"


def recipe(**stage: Any) -> Recipe:
    """A classification of slices, and beside it the variant of a reconstruction that needs no label."""
    made = {
        "medkit": 1,
        "name": "drawn",
        "data": {
            "d": {
                "source": {"use": "phantoms:head_ct", "patients": 6, "size": [32, 32], "slices": 4},
                "splits": {"train": {"fold": "train"}, "test": {"fold": "test"}},
                "prepare": [{"use": "window", "low": 0, "high": 80}],
            }
        },
        "stages": [
            {
                "name": "s",
                "unit": "slice",
                "batch": 2,
                "objective": {
                    "use": "multitask",
                    "encoder": {"use": "timm", "model": "test_resnet", "in_channels": 1},
                    "heads": {"cls": "smartnet:slice_class"},
                },
                "metrics": ["auc"],
                "repeat": {"free": {"objective.heads": {"rec": "smartnet:pixel_shuffle"}, "metrics": []}},
                **stage,
            }
        ],
    }
    return recipe_from(made)


def bench(made: Recipe) -> Workbench:
    return Workbench(made, Runtime(torch.device("cpu")))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))


def test_a_pretext_that_reads_no_label_gets_slices_as_they_lie_in_the_data() -> None:
    found = bench(recipe())
    assert [found.loader(stage).draw.prefer for stage in found.recipe.stages] == ["positive", "uniform"]


@pytest.mark.parametrize("draw", ["uniform", "positive"])
def test_the_recipe_decides_where_it_says_so(draw: str) -> None:
    found = bench(recipe(draw=draw))
    assert {found.loader(stage).draw.prefer for stage in found.recipe.stages} == {draw}


def test_denoisers_and_whole_volumes_are_not_drawn_by_masks() -> None:
    found = bench(medkit.load_recipe("tiny_ldct"))
    assert found.loader(found.recipe.stages[0]).draw.prefer == "uniform"
    found = bench(medkit.load_recipe("tiny_ich_cls"))
    assert found.reads.draw(found.recipe.stage("classify")) is None


def test_whole_volumes_have_no_slice_to_draw() -> None:
    with pytest.raises(Problems, match=r"stages\.s\.draw: whole volumes are trained on.*leave 'draw' out"):
        recipe(unit="volume", draw="uniform")


class Stranger(nn.Module):
    """A head that declares nothing."""

    def __init__(self, read: Any) -> None:
        super().__init__()
        self.read = read

    def view(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        return self.read(batch)


@pytest.mark.parametrize(
    ("read", "draw"),
    [
        (lambda b: (b["image"], b["image"].flip(-1)), "uniform"),
        (lambda b: (b["image"], torch.rand(len(b["image"]))), "uniform"),
        (lambda b: (b["image"], b["image"]) if "mask" in b else None, "uniform"),
        (lambda b: (b["image"], b["mask"]), "positive"),
        (lambda b: (b["image"], b.get("label")), "positive"),
        (lambda b: (lambda image, mask, **_: (image, mask))(**b), "positive"),
        (lambda b: b["image"].no_such_method(), "uniform"),  # fails in its own stage, not before the run
    ],
)
def test_what_a_strangers_head_takes_from_a_batch_decides(read: Any, draw: str) -> None:
    found = bench(recipe())
    objective = found.objective(found.recipe.stages[1])
    objective.heads = nn.ModuleDict({"odd": Stranger(read)})
    state = torch.get_rng_state()
    assert found.reads.draw(found.recipe.stages[1], objective) == draw
    assert torch.equal(torch.get_rng_state(), state), "asking draws nothing of the training's numbers"


@pytest.mark.parametrize(
    ("use", "read"),
    [
        (lambda b: "mask" in b, set()),
        (lambda b: b.get("missing"), set()),
        (lambda b: b.get("mask"), {"mask"}),
        (lambda b: b.pop("mask"), {"mask"}),
        (dict, {"image", "mask"}),
        (lambda b: {**b}, {"image", "mask"}),
        (lambda b: {"a": 0} | b, {"image", "mask"}),
        (lambda b: b | {"a": 0}, {"image", "mask"}),
        (lambda b: list(b.values()), {"image", "mask"}),
        (lambda b: b.copy(), {"image", "mask"}),
    ],
)
def test_a_watched_batch_knows_what_was_read_of_it(use: Any, read: set[str]) -> None:
    watched = Watched({"image": 1, "mask": 2})
    use(watched)
    assert watched.read == read


def test_how_slices_were_drawn_stands_in_recipe_log_and_report(tmp_path: Path) -> None:
    made = medkit.run(recipe(), tmp_path / "run", device="cpu", quiet=True)
    stages = yaml.safe_load((made.folder / "recipe.yaml").read_text())["stages"]
    assert [stage["draw"] for stage in stages] == ["positive", "uniform"]
    assert [stage.draw for stage in medkit.load_recipe(made.folder / "recipe.yaml").stages] == ["positive", "uniform"]
    log = (made.folder / "log.txt").read_text()
    assert f"s@free: {UNIFORM} (draw: uniform)" in log
    assert "(draw: positive)" in log
    report = made.report.read_text()
    assert "Training of <b>s</b>: a case with a positive mask " + POSITIVE in report
    assert f"Training of <b>s@free</b>: {UNIFORM}." in report
