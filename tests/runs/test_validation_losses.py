"""Losses of the validation split: there for every stage, and good enough to choose an epoch by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import small_recipe, train

import medkit
from medkit.errors import InputError, Problems

RECONSTRUCTION = {
    "use": "multitask",
    "encoder": {"use": "timm", "model": "test_resnet"},
    "heads": {"rec": {"use": "smartnet:pixel_shuffle"}, "cls": {"use": "smartnet:slice_class"}},
}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_stage_without_metrics_has_its_losses_and_their_sum(tmp_path: Path) -> None:
    train(small_recipe("t", metrics=[], objective=RECONSTRUCTION, epochs=2), tmp_path / "run", quiet=True)
    for line in lines(tmp_path / "run"):
        assert line["val/loss"] == pytest.approx(line["val/rec"] + line["val/cls"])
        assert 0 < line["val/cls"] < 10


def test_a_loss_that_has_the_name_of_a_metric_stands_beside_it(tmp_path: Path) -> None:
    objective = {**RECONSTRUCTION, "heads": {"auc": {"use": "smartnet:slice_class"}}}
    train(small_recipe("t", objective=objective), tmp_path / "run", quiet=True)
    (line,) = lines(tmp_path / "run")
    assert line["val/auc_loss"] == line["val/loss"] != line["val/auc"]


def test_a_stage_can_keep_the_epoch_of_its_least_loss_and_end_early_by_it(tmp_path: Path) -> None:
    judged = {"keep_best": {"metric": "loss"}, "early_stop": {"metric": "rec", "patience": 1}}
    wild = {"use": "sgd", "lr": 5.0}
    recipe = small_recipe("t", metrics=[], objective=RECONSTRUCTION, epochs=30, optim=wild, clip=1.0, **judged)
    train(recipe, tmp_path / "run", quiet=True)
    told = lines(tmp_path / "run")
    assert len(told) < 30, "so wild a rate does not get better 30 times in a row"
    assert told[-1]["val/rec"] >= told[-2]["val/rec"]
    assert f"ended after epoch {len(told)} of 30" in (tmp_path / "run" / "log.txt").read_text()


def test_two_turns_have_no_sum_to_be_judged_by(tmp_path: Path) -> None:
    changes = ["stages.denoise.keep_best={metric: loss}"]
    with pytest.raises(InputError, match=r"judged by 'loss', which is no loss of it.*its losses: .*charbonnier"):
        medkit.run("tiny_ldct_mtdgan", tmp_path / "run", set=changes, quiet=True, device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_the_stage_does_not_have_is_refused_by_check() -> None:
    with pytest.raises(Problems, match=r"no metric is named 'rce'.*its losses: rec, cls"):
        small_recipe("t", metrics=[], objective=RECONSTRUCTION, keep_best={"metric": "rce"})
