"""Classes of a notebook's cells as parts: their text is the plugin, and what cannot be written down is refused."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers import go_on, train
from pydantic import BaseModel

import medkit
from medkit.errors import InputError
from medkit.recipe import recipe_from
from medkit.registry import cells, plugins
from medkit.registry.build import build

HEAD = """
import numpy
import torch.nn.functional as F
from torch import nn

import medkit
from medkit.api import Channels

TIMES = 2
TABLE = numpy.ones(3)


def grey(image):
    return TIMES * image.mean((1, 2, 3))
"""
BRIGHT = '''
@medkit.part("pretext", "say how bright the image is")
class Bright(nn.Module):
    """Say how bright the image is."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.linear = nn.Linear(channels[-1], 1)

    def view(self, batch):
        return batch["image"], grey(batch["image"])

    def forward(self, features):
        return self.linear(features[-1].mean((2, 3)))[:, 0]

    def loss(self, output, target):
        return {"mse": F.mse_loss(output, target)}
'''


@pytest.fixture
def cell(tmp_path: Path, monkeypatch) -> Iterator[Callable[[str], dict[str, Any]]]:
    """``cell(text)`` runs text as a notebook's kernel does, each time in the same namespace."""
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path))
    module = ModuleType("as_in_a_notebook")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    counted = iter(range(100))

    def run(text: str) -> dict[str, Any]:
        name = f"<cell {next(counted)}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), vars(module))
        return vars(module)

    yield run
    for plugin in set(cells._PLUGIN_OF.values()) & set(plugins.files()):
        plugins.forget(plugin)
    cells._PLUGIN_OF.clear()
    cells._NAMES.clear()


def recipe(use: Any) -> dict[str, Any]:
    data = {
        "source": {"use": "phantoms:head_ct", "patients": 6, "size": [32, 32], "slices": 4},
        "splits": {name: {"fold": name} for name in ("train", "val", "test")},
    }
    encoder = {"use": "timm", "model": "test_resnet"}
    objective = {"use": "multitask", "encoder": encoder, "heads": {"bright": {"use": use}}}
    return {"medkit": 1, "name": "cells", "data": {"d": data}, "stages": [{"name": "s", "objective": objective}]}


def test_what_is_built_comes_from_a_file_that_stands_alone(cell) -> None:
    cell(HEAD)
    made = cell(BRIGHT)["Bright"]
    name = cells.name_of(made).partition(":")[0]
    text = plugins.files()[name].decode()
    assert "TIMES = 2" in text
    assert "def grey(image):" in text
    assert "TABLE" not in text
    alone: dict[str, Any] = {}
    exec(compile(text, "alone", "exec"), alone)
    built = build("pretext", "bright", channels=(4,))
    assert type(built).__module__ == name
    assert type(built) is not made


def test_a_value_that_cannot_be_written_down_is_refused_by_name(cell) -> None:
    cell(HEAD)
    with pytest.raises(InputError, match=r"'Bright' uses 'TABLE', a ndarray of the notebook") as told:
        cell(BRIGHT.replace("grey(batch", "len(TABLE) * grey(batch"))
    assert "--plugin" in str(told.value.hint)
    with pytest.raises(InputError, match="'Bright' uses 'gray', which is not defined"):
        cell(BRIGHT.replace("grey(batch", "gray(batch"))


def test_a_changed_class_is_another_part_and_its_name_the_latest(cell) -> None:
    cell(HEAD)
    first = cells.name_of(cell(BRIGHT)["Bright"])
    again = cells.name_of(cell(BRIGHT)["Bright"])
    cell("TIMES = 3")
    changed = cells.name_of(cell(BRIGHT)["Bright"])
    assert first == again
    assert changed != first
    named = recipe_from(recipe("bright")).stages[0].objective.arguments["heads"]["bright"].name
    assert named == changed
    with pytest.raises(InputError, match=f"no pretext is named '{first}'"):
        recipe_from(recipe(first))


def test_a_recipe_names_a_class_and_is_written_with_its_full_name(cell, tmp_path: Path) -> None:
    cell(HEAD)
    made = cell(BRIGHT)["Bright"]
    checked = recipe_from(recipe(made))
    path = checked.write(tmp_path / "r.yaml")
    assert cells.name_of(made) in path.read_text()


def test_another_process_goes_on_with_the_text_that_a_run_keeps_and_refuses_it_edited(cell, tmp_path: Path) -> None:
    cell(HEAD)
    made = cell(BRIGHT)["Bright"]
    run = train(recipe(made), tmp_path / "run", set=["stages.s.batch=4"], device="cpu", quiet=True)
    (kept,) = (run.folder / "plugins").iterdir()
    plugins.forget(kept.stem)  # as in a process that has not seen the notebook
    assert medkit.open(run.folder).recipe.stages[0].objective.arguments["heads"]["bright"].name.startswith(kept.stem)
    plugins.forget(kept.stem)
    kept.write_text(kept.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="has been edited since"):
        go_on(run.folder, device="cpu", quiet=True)


def test_a_run_that_was_begun_with_another_text_is_not_gone_on_with(cell, tmp_path: Path) -> None:
    cell(HEAD)
    cell(BRIGHT)
    train(recipe("bright"), tmp_path / "run", set=["stages.s.batch=4"], device="cpu", quiet=True)
    cell(BRIGHT.replace("linear(features[-1]", "linear(2 * features[-1]"))
    with pytest.raises(InputError, match=r"the folder holds a run of another recipe: .*heads.bright.use"):
        medkit.run(recipe("bright"), tmp_path / "run", set=["stages.s.batch=4"], device="cpu", quiet=True, resume=True)


def test_a_class_that_is_no_part_is_refused(cell) -> None:
    with pytest.raises(
        InputError, match=r"the class 'Path' is not a registered part; put @medkit.part\(KIND\) above it"
    ):
        recipe_from(recipe(Path))
    with pytest.raises(InputError, match="an object of the class object cannot be written in a recipe"):
        recipe_from(recipe(object()))


def test_an_installed_part_may_be_named_by_its_class() -> None:
    from medkit_smartnet.slice_class import SliceClass

    named = recipe_from(recipe(SliceClass)).stages[0].objective.arguments["heads"]["bright"].name
    assert named == "smartnet:slice_class"


def test_models_dataclasses_and_numbers_of_numpy_are_data() -> None:
    class Head(BaseModel):
        use: str = "smartnet:slice_class"

    @dataclass
    class Encoder:
        use: str
        model: str
        in_channels: Any

    given = recipe("smartnet:slice_class")
    objective = given["stages"][0]["objective"]
    objective["encoder"]["in_channels"] = 1
    plain = recipe_from(given)
    objective["heads"]["bright"] = Head()
    objective["encoder"] = Encoder("timm", "test_resnet", np.int64(1))
    assert recipe_from(given).resolved() == plain.resolved()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="'pretexts' is not a kind of component; did you mean 'pretext'"):
        medkit.part("pretexts")
