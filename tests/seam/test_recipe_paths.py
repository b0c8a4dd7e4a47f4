"""Files that a recipe names are the same files in whichever folder a command is given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import yaml

from medkit.errors import InputError
from medkit.recipe import load_recipe, recipe_from
from medkit.registry.marks import File, Weights
from medkit.registry.schema import with_files

BLOCK = {
    "source": {"use": "manifest", "path": "lists/m.csv", "root": "images"},
    "splits": {"train": {"fold": "train"}, "test": {"fold": "test"}},
    "prepare": ["window"],
}
ENCODER = {"use": "timm", "model": "resnet10t", "weights": "w.safetensors"}
STAGE = {
    "name": "cls",
    "objective": {"use": "multitask", "encoder": ENCODER, "heads": {"cls": {"use": "smartnet:slice_class"}}},
}
DATA = {"medkit": 1, "name": "paths", "data": {"d": BLOCK}, "stages": [STAGE]}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "project" / "r.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(DATA))
    return path


def test_paths_in_a_recipe_count_from_its_folder(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = load_recipe("project/r.yaml")
    assert found.data["d"].source.arguments["path"] == str(recipe.parent / "lists" / "m.csv")
    assert found.data["d"].source.arguments["root"] == str(recipe.parent / "images")
    encoder = found.stages[0].objective.arguments["encoder"]
    assert encoder.arguments["weights"] == str(recipe.parent / "w.safetensors")


def test_the_written_recipe_names_the_same_files_elsewhere(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_recipe(recipe)
    monkeypatch.chdir(tmp_path)
    assert load_recipe(found.write(tmp_path / "recipe.yaml")) == found


def test_a_path_on_the_command_line_counts_from_the_current_folder(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = load_recipe(recipe, set=["data.d.source.path=other.csv"])
    assert found.data["d"].source.arguments["path"] == str(tmp_path / "other.csv")


def test_paths_in_python_data_count_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert recipe_from(DATA).data["d"].source.arguments["path"] == str(tmp_path / "lists" / "m.csv")


def test_a_file_that_lies_in_the_current_folder_only_is_refused_with_its_place(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "m.csv").write_text("")
    with pytest.raises(InputError, match=r"r\.yaml:\d+:\d+: data\.d\.source\.path.*project, but in the current folder"):
        load_recipe(recipe)


@pytest.mark.parametrize(
    ("annotation", "value", "found"),
    [
        (Path, Path("a"), "/r/a"),
        (Path | None, None, None),
        (str, "a", "a"),
        (Annotated[str, File()], "a", "/r/a"),
        (Weights | None, "hub:imagenet", "hub:imagenet"),
        (Weights | None, "random_test_features", "random_test_features"),
        (Weights | None, "a", "/r/a"),
        (list[Path], [Path("a"), Path("b")], ["/r/a", "/r/b"]),
        (dict[str, Path], {"x": Path("a")}, {"x": "/r/a"}),
        (tuple[Path, int], (Path("a"), 1), ["/r/a", 1]),
        (tuple[float, ...], (0.5, 1.0), [0.5, 1.0]),
    ],
)
def test_texts_that_name_files_are_known_by_their_annotation(annotation: object, value: object, found: object) -> None:
    assert with_files(annotation, value, lambda text: f"/r/{text}") == found
