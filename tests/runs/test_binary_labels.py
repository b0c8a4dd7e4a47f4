"""A label that is read as 0 or 1 and is neither is refused before anything is trained on it or counted by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import recipe_on, train, write_noise

from medkit.engine.progress import Progress
from medkit.errors import Problems
from medkit.recipe import Recipe
from medkit.runs.data_check import check_data

FOLDS = ["train", "train", "val", "val", "test", "test"]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    return write_noise(tmp_path / "data", [f"p{i}" for i in range(6)], FOLDS)


def relabelled(source: dict[str, Any], *labels: str) -> dict[str, Any]:
    path = Path(source["path"])
    head, *rows = path.read_text(encoding="utf-8").split()
    changed = [row.rpartition(",")[0] + f",{label}" for row, label in zip(rows, labels, strict=True)]
    path.write_text("\n".join([head, *changed]) + "\n", encoding="utf-8")
    return source


def dice_only(source: dict[str, Any], **stage: Any) -> Recipe:
    encoder = {"use": "timm", "model": "test_resnet"}
    objective = {"use": "multitask", "encoder": encoder, "heads": {"px": {"use": "smartnet:pixel_shuffle"}}}
    return recipe_on(source, objective=objective, metrics=[], **stage)


@pytest.mark.parametrize("label", ["-1", "2", "0.5"])
def test_codes_other_than_0_and_1_are_refused_with_row_and_value(source, tmp_path: Path, label: str) -> None:
    made = recipe_on(relabelled(source, "1", "0", label, "1", "", label))
    for look in (lambda: check_data(made, 1, Progress(quiet=True)), lambda: train(made, tmp_path / "run")):
        with pytest.raises(Problems) as refused:
            look()
        first, second = refused.value.problems
        assert (first.where, second.where) == (f"{source['path']}:4", f"{source['path']}:7")
        assert f"bleed: {label} is neither 0 nor 1, as 'smartnet:slice_class' of stage 's' reads it" in first.what
        assert "leave the cell empty where the label is unknown" in first.hint
        assert "'labels:'" in first.hint
    assert not (tmp_path / "run" / "results.json").exists()


def test_balance_reads_labels_as_0_and_1_too(source) -> None:
    labels = ("1", "0", "3", "1", "0", "1")
    with pytest.raises(Problems, match="'balance' of stage 's' reads it"):
        check_data(dice_only(relabelled(source, *labels), balance=True), 1, Progress(quiet=True))


def test_what_nothing_reads_as_0_or_1_may_be_any_number(source) -> None:
    (checked,) = check_data(dice_only(relabelled(source, "1", "0", "3", "1", "0.5", "-1")), 1, Progress(quiet=True))
    assert not checked.failures


def test_a_row_that_no_split_has_may_be_labelled_otherwise(source) -> None:
    path = Path(relabelled(source, "1", "0", "1", "0", "1", "-1")["path"])
    path.write_text(path.read_text(encoding="utf-8").replace("p5,test", "p5,unsure"), encoding="utf-8")
    (checked,) = check_data(recipe_on(source), 1, Progress(quiet=True))
    assert checked.total == 5
