"""``medkit new recipe``: what it writes for a table passes ``check`` and trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import write_hands, write_heads

import medkit
from medkit.cli.new_recipe import write_recipe
from medkit.data.folds import split
from medkit.errors import InputError
from medkit.runs.dry import dry_run


@pytest.fixture(scope="module")
def head_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_heads(tmp_path_factory.mktemp("heads"))


@pytest.fixture(scope="module")
def hand_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hands(tmp_path_factory.mktemp("hands"))


@pytest.mark.parametrize(
    ("task", "kind", "label"),
    [
        ("segment", "head", "label"),
        ("classify", "head", "label"),
        ("views", "head", "none"),
    ],
)
def test_a_written_recipe_takes_a_step(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, kind: str, label: str
) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    recipe = write_recipe(task, request.getfixturevalue(f"{kind}_cases"), tmp_path / f"{task}.yaml", label=label)
    assert [row[0] for row in dry_run(recipe, device="cpu").rows] == [task]


def test_a_written_recipe_trains_to_a_report(hand_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    recipe = write_recipe("regress", hand_cases, tmp_path / "regress.yaml", label="months")
    run = medkit.run(recipe, tmp_path / "run", set=["stages.regress.epochs=1", "report.maps=null"], device="cpu")
    assert run.results["regress"]["test"]["mae"].n == 3


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("segment", {}, "to segment, a column 'mask' is needed"),
        ("denoise", {}, "to denoise, a column 'target' is needed"),
        ("classify", {"label": "label"}, "to classify, a column 'label' is needed"),
        ("classify", {"label": "view"}, "'view' has other values than 0 and 1"),
        ("segmant", {}, "'segmant' is no task; did you mean 'segment'"),
        ("classify", {"fold": "folds"}, "no column 'folds'; medkit data split"),
    ],
)
def test_a_table_without_what_the_task_needs_is_refused(
    hand_cases: Path, tmp_path: Path, task: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_recipe(task, hand_cases, tmp_path / "made.yaml", **options)
    assert not list(tmp_path.iterdir())


def test_values_come_from_the_table(head_cases: Path, tmp_path: Path) -> None:
    text = write_recipe("segment", head_cases, tmp_path / "made.yaml").read_text()
    assert "12 cases of 12 patients, 12 with a mask" in text
    assert "Images are 64x64, with pixels of 0.5 to 0.5 mm" in text
    assert "{use: window, low: 0, high: 80}" in text


def test_numbered_folds_become_splits(head_cases: Path, tmp_path: Path) -> None:
    split(head_cases, folds=4, column="part", out=tmp_path / "numbered.csv")
    text = write_recipe("classify", tmp_path / "numbered.csv", tmp_path / "made.yaml", fold="part").read_text()
    assert 'splits: {train: {fold: ["1", "2"]}, val: {fold: "3"}, test: {fold: "4"}}' in text


def test_the_three_commands_of_the_documentation(medkit: Callable[..., object], tmp_path: Path) -> None:
    write_heads(tmp_path)
    (tmp_path / "cases.csv").unlink()
    (tmp_path / "cases.left_out.csv").unlink()
    for words in (
        ("data", "folder", "images", "--masks", "masks", "--out", "cases.csv"),
        ("data", "split", "cases.csv", "--by", "patient"),
        ("new", "recipe", "--task", "segment", "--data", "cases.csv"),
    ):
        done = medkit(*words)
        assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
