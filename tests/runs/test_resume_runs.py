"""Runs that are stopped anywhere and resumed end with the weights and the numbers of those that were not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Stopped, assert_same_run, go_on, stopped_after, train

import medkit
from medkit.runs import built_in_trainer

OPTIONS: dict[str, Any] = {"device": "cpu", "quiet": True}
ICH = ["stages.pretext.slices=4", "report.splits=[internal]", "report.maps={cases: 1}"]
# What is trained, and after how many optimizer steps it is stopped, each time anew.
CASES: dict[str, tuple[str, list[str], list[int]]] = {
    "multitask and volume": (
        "tiny_ich_seg",
        [*ICH, "data.ich.prepare.2.size=[32,32]", "stages.pretext.epochs=2"],
        [2, 2, 4, 2],
    ),
    "adamw": ("tiny_ich_cls", [*ICH, "stages.pretext.optim.use=adamw"], [2]),
    "sgd": ("tiny_ich_cls", [*ICH, "stages.pretext.optim.use=sgd"], [2]),
    "restoration": ("tiny_ldct", [], [1]),
    "adversarial, averaged, PCGrad, two critic steps": (
        "tiny_ldct_mtdgan",
        ["stages.denoise.objective.ema=0.9", "stages.denoise.objective.critic_steps=2"],
        [2, 5],
    ),
    "distillation beside heads, PCGrad": ("tiny_ssl_smartnet", ["stages.pretext.objective.combine=pcgrad"], [2, 2]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for runs, which share the prepared samples and keep a checkpoint of every step."""
    made = tmp_path_factory.mktemp("resumed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(made / "cache"))
        patch.setattr(built_in_trainer, "CHECKPOINT_SECONDS", 0.0)
        yield made


ALWAYS = ("multitask and volume", "adversarial, averaged, PCGrad, two critic steps")


@pytest.mark.parametrize(
    "what", [what if what in ALWAYS else pytest.param(what, marks=pytest.mark.nightly) for what in CASES]
)
def test_a_run_stopped_inside_its_epochs_ends_as_one_that_was_not(folder: Path, what: str) -> None:
    recipe, changes, stops = CASES[what]
    skip = ["segment@scratch"] if recipe == "tiny_ich_seg" else []
    straight, broken = folder / what / "straight", folder / what / "broken"
    train(recipe, straight, set=changes, skip=skip, **OPTIONS)
    for steps in stops:
        with stopped_after(steps):
            if broken.exists():
                go_on(broken, **OPTIONS)
            else:
                train(recipe, broken, set=changes, skip=skip, **OPTIONS)
    go_on(broken, **OPTIONS)
    assert_same_run(broken, straight)


def stopped_before_write(number: int, work: Callable[[], Any], patch: pytest.MonkeyPatch) -> bool:
    """Do ``work`` until the ``number``-th file would get its name; whether it was stopped there."""
    done = 0

    def counted(rename: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any, **keywords: Any) -> None:
            nonlocal done
            done += 1
            if done == number:
                raise Stopped
            rename(*arguments, **keywords)

        return call

    with patch.context() as inside:
        inside.setattr(os, "replace", counted(os.replace))
        inside.setattr(os, "rename", counted(os.rename))
        try:
            work()
        except Stopped:
            return True
    return False


def test_a_run_stopped_before_writes_of_all_kinds_ends_as_one_that_was_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its first moments, at checkpoints, between stages, at results and the report."""
    straight, broken = folder / "writes" / "straight", folder / "writes" / "broken"
    medkit.run("tiny_ich_cls", straight, set=ICH, **OPTIONS)

    def go_on() -> None:
        if (broken / "recipe.yaml").exists():
            medkit.resume(broken, **OPTIONS)
        else:
            if broken.exists():
                os.utime(broken, (0, 0))  # left by an earlier process: one that is younger than this is being started
            medkit.run("tiny_ich_cls", broken, set=ICH, **OPTIONS)

    number, stops = 1, 0
    while stopped_before_write(number, go_on, monkeypatch):
        number, stops = number + 1, stops + 1
        assert stops < 60
    assert stops > 6
    assert_same_run(broken, straight)
