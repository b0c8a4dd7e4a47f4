"""``medkit new recipe``: what it writes for a table passes ``check`` and trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import write_hands, write_heads, write_pictures

import medkit
from medkit.cli.new_recipe import write_recipe
from medkit.cli.recipe_batch import batch_size
from medkit.data.folds import split
from medkit.errors import InputError
from medkit.runs.dry import dry_run


@pytest.fixture(scope="module")
def head_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_heads(tmp_path_factory.mktemp("heads"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def hand_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hands(tmp_path_factory.mktemp("hands"))


def test_a_written_recipe_takes_a_step(hand_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    recipe = write_recipe("classify", hand_cases, tmp_path / "classify.yaml", label="broken", size=64)
    assert [row[0] for row in dry_run(recipe, device="cpu").rows] == ["classify"]


def test_a_written_recipe_trains_to_a_report(hand_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    recipe = write_recipe("regress", hand_cases, tmp_path / "regress.yaml", label="months", unit="months")
    run = medkit.run(recipe, tmp_path / "run", set=["stages.regress.epochs=1", "report.maps=null"], device="cpu")
    assert run.results["regress"]["test"]["mae"].n == 3
    assert run.results["regress"]["test"]["mae"].unit == "months"


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("segment", {}, "to segment, a column 'mask' is needed"),
        ("denoise", {}, "to denoise, a column 'target' is needed"),
        ("classify", {"label": "label"}, "to classify, a column 'label' is needed"),
        ("classify", {"label": "months"}, "'months' has 12 different numbers among 12 cases"),
        ("classify", {"unit": "months", "label": "broken"}, "labels to classify have no unit"),
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


@pytest.mark.parametrize(
    ("task", "label", "lines"),
    [
        (
            "classify",
            "kind",
            [
                "labels: {one_of: [bar, dot, none], column: kind}",
                "heads: {cls: {use: classification",
                "12 are bar",
                "keep_best: {metric: loss",
            ],
        ),
        (
            "classify",
            "has_bar,has_dot",
            ["labels: {any_of: [has_bar, has_dot], column: [has_bar, has_dot]}", "heads: {cls: {use: multilabel"],
        ),
        ("classify", "found", ["labels: {any_of: [bar, dot], column: found}"]),
        ("regress", "age", ["labels: {unit: months, column: age}", "use: regression, start: 32, scale: 7.746"]),
        ("views", "kind", ["heads: {view: {use: classification}}"]),
    ],
)
def test_labels_of_each_kind_are_declared(
    tmp_path: Path, pictures: Path, task: str, label: str, lines: list[str]
) -> None:
    unit = "months" if task == "regress" else None
    text = write_recipe(task, pictures, tmp_path / "made.yaml", label=label, unit=unit).read_text()
    assert not [line for line in lines if line not in text], text
    assert "sex" not in text


def test_words_that_are_no_names_stay_those_of_the_table(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "spaced.csv").write_text(pictures.read_text().replace(",none,0,", ",No finding,0,"))
    for name in ("0", "1"):
        (tmp_path / f"{name}.png").symlink_to(pictures.parent / f"{name}.png")
    text = write_recipe("classify", tmp_path / "spaced.csv", tmp_path / "made.yaml", label="kind").read_text()
    assert 'one_of: {"No finding": No_finding, bar: bar, dot: dot}' in text


@pytest.mark.parametrize(("gib", "items"), [(1, 4), (8, 32), (64, 32)])
def test_a_batch_is_what_a_quarter_of_the_memory_holds(gib: int, items: int) -> None:
    found = batch_size("classify", 256**2, memory=gib * 2**30)
    assert found.items == items
    assert f"of {gib} GiB of memory" in found.why
    assert found == batch_size("classify", 256**2, memory=gib * 2**30)


def test_measurements_with_decimal_commas_are_not_called_names(tmp_path: Path, pictures: Path) -> None:
    rows = [line.rsplit(",", 1) for line in pictures.read_text().splitlines()]
    lines = [",".join(rows[0]), *(f'{rest},"{last},5"' for rest, last in rows[1:])]
    (tmp_path / "commas.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"'age' has decimal commas, such as '20,5'; write '20\.5'"):
        write_recipe("regress", tmp_path / "commas.csv", tmp_path / "made.yaml", label="age", unit="months")


def test_a_batch_of_one_is_not_to_be_halved() -> None:
    assert batch_size("classify", 256**2, memory=2**20).why.endswith("if it runs out, take smaller images")


@pytest.mark.parametrize(("moved", "metric"), [(0, "loss"), (4, "macro_auc")])
def test_a_metric_chooses_the_epoch_only_where_three_cases_of_each_class_validate(
    tmp_path: Path, pictures: Path, moved: int, metric: str
) -> None:
    lines = pictures.read_text().splitlines()  # of each class, two cases validate
    lines[1 : 1 + moved] = [line.replace(",train,", ",val,") for line in lines[1 : 1 + moved]]
    (tmp_path / "more.csv").write_text("".join(f"{line}\n" for line in lines))
    for i in range(34):
        (tmp_path / f"{i}.png").symlink_to(pictures.parent / f"{i}.png")
    text = write_recipe("classify", tmp_path / "more.csv", tmp_path / "made.yaml", label="kind").read_text()
    assert f"keep_best: {{metric: {metric}, split: val}}" in text


def test_values_come_from_the_table(head_cases: Path, tmp_path: Path) -> None:
    text = write_recipe("segment", head_cases, tmp_path / "made.yaml").read_text()
    assert "12 cases of 12 patients, 12 with a mask" in text
    assert "Images are 64x64, with pixels of 0.5 mm; prepared" in text
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
