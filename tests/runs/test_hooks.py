"""Hooks of plugins: told of a run from its start to its end, and unable to end it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import small_recipe

import medkit
from medkit.api import hookimpl
from medkit.errors import RunError
from medkit.recipe import Recipe
from medkit.registry import plugins as plugin
from medkit.reporting.report import write_report


def tiny(**stage: Any) -> Recipe:
    return small_recipe("hooked", {"maps": {"cases": 0}}, **stage)


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Registers functions as the hooks of a plugin named 'tracker' for one test."""
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    manager = plugin._loaded().manager

    def register(**hooks: Any) -> None:
        manager.register(SimpleNamespace(**{name: hookimpl(hook) for name, hook in hooks.items()}), "tracker")

    yield register
    manager.unregister(name="tracker")


def down(run: Any) -> Any:
    raise ConnectionError("the tracker's server is down")


def down_each_epoch(run: Any, stage: str, epoch: int, metrics: Any) -> None:
    raise ConnectionError("the tracker's server is down")


def leave(run: Any) -> Any:
    sys.exit(0)


def test_a_run_goes_on_to_its_report_though_every_hook_fails(hooked, tmp_path, capsys):
    hooked(medkit_run_start=leave, medkit_epoch_end=down_each_epoch, medkit_run_end=down, medkit_report=down)
    run = medkit.run(tiny(epochs=2), tmp_path / "run")
    said = capsys.readouterr().err
    assert run.report.is_file()
    for hook in ("medkit_run_start", "medkit_epoch_end", "medkit_run_end", "medkit_report"):
        assert said.count(f"{hook} of plugin 'tracker' failed") == 1, hook
    assert "ConnectionError: the tracker's server is down (test_hooks.py:" in said
    assert "it called sys.exit(0)" in said
    assert "medkit_epoch_end of plugin 'tracker' failed" in (tmp_path / "run" / "log.txt").read_text()


def test_hooks_get_numbers_and_one_kind_of_run(hooked, tmp_path):
    seen: dict[str, Any] = {}

    def keep(name: str, run: Any) -> None:
        seen[name] = (type(run.recipe), run.recipe.name, run.status, set(run.results))

    def report(run: Any) -> list[tuple[str, str]]:
        keep("report", run)
        return [("Mine", "<p>kept</p>")]

    def epoch_end(run: Any, stage: str, epoch: int, metrics: Any) -> None:
        seen["epoch"] = (stage, epoch, metrics)

    hooked(
        medkit_run_start=lambda run: keep("start", run),
        medkit_epoch_end=epoch_end,
        medkit_run_end=lambda run: keep("end", run),
        medkit_report=report,
    )
    run = medkit.run(tiny(unfreeze={"part": "encoder"}), tmp_path / "run", quiet=True)
    assert seen["start"] == (Recipe, "hooked", "running", set())
    assert seen["report"] == (Recipe, "hooked", "finished", {"s"})
    assert seen["end"] == (Recipe, "hooked", "finished", {"s"})
    stage, epoch, metrics = seen["epoch"]
    assert (stage, epoch) == ("s", 1)
    assert {"train/cls", "val/auc", "lr", "seconds"} <= set(metrics)
    assert all(type(value) is float for value in metrics.values())
    assert "<p>kept</p>" in run.report.read_text()


def test_a_hook_that_changes_the_numbers_it_gets_changes_nobody_elses(hooked, tmp_path):
    hooked(medkit_epoch_end=lambda run, stage, epoch, metrics: metrics.clear())
    stop = {"metric": "auc", "split": "val", "patience": 5}
    run = medkit.run(tiny(epochs=1, early_stop=stop), tmp_path / "run")
    assert run.status == "finished"


def test_a_run_that_fails_tells_its_end_too(hooked, tmp_path):
    ended = []

    def interrupt(run: Any, stage: str, epoch: int, metrics: Any) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGINT)

    hooked(medkit_epoch_end=interrupt, medkit_run_end=lambda run: ended.append(run.status))
    with pytest.raises(KeyboardInterrupt):
        medkit.run(tiny(), tmp_path / "run", quiet=True)
    assert ended == ["interrupted"]


def test_strict_mode_ends_the_run_at_a_failing_hook(hooked, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDKIT_STRICT", "1")
    hooked(medkit_run_start=down)
    with pytest.raises(RunError, match="medkit_run_start of plugin 'tracker' failed: ConnectionError"):
        medkit.run(tiny(), tmp_path / "run", quiet=True)


@pytest.mark.parametrize("answer", [42, ["abc"], [("title", None)]])
def test_a_section_that_is_none_is_left_out_of_the_report(hooked, tmp_path, capsys, answer):
    medkit.run(tiny(), tmp_path / "run", quiet=True)
    hooked(medkit_report=lambda run: answer)
    write_report(tmp_path / "run")
    assert "not a list of (title, HTML)" in capsys.readouterr().err
