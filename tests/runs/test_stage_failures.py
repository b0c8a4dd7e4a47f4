"""A stage that fails, whatever it raises, costs itself and those that take a part of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import run_ranks
from helpers import go_on, plugin_file, small_recipe, train

import medkit
from medkit.errors import InputError, RunError
from medkit.recipe import Recipe, recipe_from

PLUGIN = Path(__file__).with_name("faulty_plugin.py")


@pytest.fixture(scope="module", autouse=True)
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with plugin_file(PLUGIN, tmp_path_factory.mktemp("cache")):
        yield


def stages(*failing: str) -> dict[str, Any]:
    """A sound pretext, one that fails for each word of ``failing``, and a stage that takes the encoder of the last."""
    source = {"use": "phantoms:head_ct", "patients": 6, "size": [32, 32], "slices": 4}
    splits = {split: {"fold": split} for split in ("train", "val", "test")}
    data = {"source": source, "splits": splits, "prepare": [{"use": "window", "low": 0, "high": 80}]}

    def pretext(name: str, when: str) -> dict[str, Any]:
        encoder, head = {"use": "timm", "model": "test_resnet"}, {"use": "faulty", "when": when}
        objective = {"use": "multitask", "encoder": encoder, "heads": {"cls": head}}
        return {"name": name, "batch": 2, "slices": 2, "objective": objective, "metrics": ["auc"]}

    heads = {"cls": {"use": "smartnet:slice_class"}}
    taken = {"use": "multitask", "encoder": {"from": f"bad{len(failing) - 1}.encoder"}, "heads": heads}
    made = [
        *(pretext(f"bad{i}", when) for i, when in enumerate(failing)),
        {"name": "taken", "batch": 2, "objective": taken, "metrics": ["auc"]},
        pretext("good", "never"),
    ]
    return {"medkit": 1, "name": "t", "data": {"d": data}, "stages": made, "report": {"maps": {"cases": 0}}}


def recipe(*failing: str) -> Recipe:
    return recipe_from(stages(*failing))


def state(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "state.json").read_text())
    return found


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory, loaded: None) -> tuple[Path, str]:
    """A run of which one stage fails in its first step, and what is said at its end."""
    folder = tmp_path_factory.mktemp("failed") / "run"
    with pytest.raises(RunError) as caught:
        medkit.run(recipe("training"), folder, quiet=True, device="cpu")
    return folder, str(caught.value)


def test_the_others_are_trained_and_reported(failed: tuple[Path, str]) -> None:
    folder, _ = failed
    assert state(folder)["done"] == ["good"]
    assert "good" in json.loads((folder / "results.json").read_text())
    assert (folder / "report.html").is_file()


def test_the_reason_stands_in_the_state_and_at_the_command_s_end(failed: tuple[Path, str]) -> None:
    folder, said = failed
    reasons = state(folder)["failed"]
    assert "ValueError: shape trouble in a plugin (faulty_plugin.py:" in reasons["bad0"]
    assert reasons["taken"] == "takes a part of 'bad0', which failed"
    assert "ValueError: shape trouble in a plugin" in said
    assert "taken: takes a part of 'bad0'" in said


def test_its_traceback_is_in_the_log(failed: tuple[Path, str]) -> None:
    folder, _ = failed
    log = (folder / "log.txt").read_text()
    assert "Traceback (most recent call last)" in log
    assert 'raise ValueError("shape trouble in a plugin")' in log


def test_what_was_mended_is_trained_by_resume(
    failed: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, _ = failed
    monkeypatch.setenv("MENDED", "1")
    go_on(folder, quiet=True, device="cpu")
    assert state(folder)["done"] == ["good", "bad0", "taken"]
    assert not state(folder)["failed"]


def test_a_stage_that_fails_on_its_first_case_costs_no_other(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"bad0: .*cannot predict its first case: ValueError: shape trouble"):
        train(recipe("always"), tmp_path / "run", quiet=True, device="cpu")
    assert state(tmp_path / "run")["done"] == ["good"]
    assert "Traceback" in (tmp_path / "run" / "log.txt").read_text()


def test_a_run_of_which_no_stage_would_be_left_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot predict its first case: ValueError"):
        medkit.run(recipe("always").without(["good"]), tmp_path / "run", quiet=True, device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "when", ["one rank", *(pytest.param(when, marks=pytest.mark.nightly) for when in ("training", "backward"))]
)
def test_ranks_fail_together_and_go_on_together(tmp_path: Path, when: str) -> None:
    path, folder = tmp_path / "r.yaml", tmp_path / "run"
    path.write_text(json.dumps(stages(when)))
    words = ["run", path, "--out", folder, "--plugin", PLUGIN, "--device", "cpu"]
    done, _ = run_ranks(words, tmp_path, {})
    assert done.returncode == 1, done.stderr[-3000:]
    assert state(folder)["done"] == ["good"], done.stderr[-3000:]
    assert "ValueError: shape trouble in a plugin" in state(folder)["failed"]["bad0"]
    assert (folder / "report.html").is_file()


LISTENER = """
from medkit.api import hookimpl

class Tracker:
    def stage_started(self, event):
        if event.stage == "bad0":
            raise ValueError("no server answers")

@hookimpl
def medkit_register(registry):
    pass

@hookimpl
def medkit_listeners(run):
    return [Tracker()]
"""


@pytest.mark.slow
def test_what_fails_on_the_main_rank_alone_between_its_meetings_costs_the_stage_only(tmp_path: Path) -> None:
    path, folder, listener = tmp_path / "r.yaml", tmp_path / "run", tmp_path / "tracker_of_mine.py"
    path.write_text(json.dumps(stages("never")))
    listener.write_text(LISTENER)
    words = ["run", path, "--out", folder, "--device", "cpu", "--plugin", PLUGIN, "--plugin", listener]
    done, _ = run_ranks(words, tmp_path, {"MEDKIT_STRICT": "1", "MEDKIT_TIMEOUT": "60"})
    assert done.returncode == 1, done.stderr[-3000:]
    assert state(folder)["done"] == ["good"], done.stderr[-3000:]
    assert "no server answers" in state(folder)["failed"]["bad0"]


def test_one_pixel_under_batch_normalisation_is_told_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(RunError, match="needs more than one value: use a larger 'batch' or larger images"):
        train(small_recipe("one", batch=1, epochs=1), tmp_path / "run", quiet=True, device="cpu")
