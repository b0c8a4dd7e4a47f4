"""A study whose methods get the same seconds: killed while it trains, gone on with, planned again, reported."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from commands import start_command
from forks import Forked
from studies.conftest import recipe, study

from medkit.recipe import load_recipe
from medkit.reporting.study_report import write_study_report

pytestmark = pytest.mark.slow
SECONDS = 2.0


@dataclass
class Killed:
    """What the study's folder held when its command was killed, and what it printed when called again."""

    out: Path
    before: dict[str, Any]
    recipes: dict[str, bytes]
    told: str

    @property
    def paces(self) -> dict[str, dict[str, Any]]:
        return {one["method"]: one for one in self.before["seconds"]}

    def seconds(self, method: str) -> list[float]:
        """Of each epoch of a method's pretext."""
        path = self.out / f"trials/{method}-seed1/metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [line["seconds"] for line in lines if line["stage"] == "pretext"]


def command(*words: object, cache: Path) -> Forked | subprocess.Popen[str]:
    return start_command(["study", *words], cache, {"MEDKIT_CACHE": str(cache), "COLUMNS": "160"})


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def killed(cache: Path, write_study: Any, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("killed")
    said = study()
    said["vary"] = {"seed": [1]}
    del said["methods"]["scratch"], said["compare"]["reference"]
    said["compare"]["seconds"] = {"pretext": SECONDS}
    path, out = write_study(folder, said, recipe()), folder / "out"
    words = ("run", path, "--out", out, "--jobs", 1, "--device", "cpu")
    first = command(*words, cache=cache)
    while not list(out.glob("trials/*/checkpoints/pretext/*")):
        assert first.poll() is None, first.communicate()
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)  # its worker goes with it
    first.communicate()
    before = json.loads((out / "study.json").read_text())
    recipes = {kept.stem: kept.read_bytes() for kept in out.glob("recipes/*")}
    second = command(*words, cache=cache)
    printed, told = second.communicate()
    assert second.returncode == 0, printed + told
    return Killed(out, before, recipes, printed + told)


def test_whoever_goes_on_keeps_the_paces_and_the_epochs(killed: Killed) -> None:
    after = json.loads((killed.out / "study.json").read_text())
    assert after["seconds"] == killed.before["seconds"]
    assert {kept.stem: kept.read_bytes() for kept in killed.out.glob("recipes/*")} == killed.recipes
    assert "2 of 2 trials finished" in killed.told


def test_each_method_trains_for_the_epochs_that_fit_by_its_own_pace(killed: Killed) -> None:
    assert killed.paces["rec"]["epoch"] != killed.paces["cls"]["epoch"]
    for method, one in killed.paces.items():
        assert one["epochs"] == int(SECONDS / one["epoch"])
        assert load_recipe(killed.out / f"recipes/{method}-seed1.yaml").stage("pretext").epochs == one["epochs"]
        assert len(killed.seconds(method)) == one["epochs"]


def test_the_report_says_what_was_measured_given_and_taken(killed: Killed) -> None:
    found = json.loads((killed.out / "summary.json").read_text())["seconds"]
    assert {one["method"] for one in found} == {"cls", "rec"}
    for one in found:
        assert one["taken"] == pytest.approx(sum(killed.seconds(one["method"])))
        assert {key: one[key] for key in killed.paces[one["method"]]} == killed.paces[one["method"]]
    page = (killed.out / "report.html").read_text()
    assert "<h3>the same seconds</h3>" in page
    for one in found:
        shown = ["pretext", one["method"], "–", "2", f"{one['epoch']:.3g} s", one["epochs"], f"{one['taken']:.3g} s", 1]
        assert "".join(f"<td>{cell}</td>" for cell in shown) in page


def test_the_report_warns_where_trainings_took_times_far_apart(killed: Killed) -> None:
    path = killed.out / "trials/rec-seed1/metrics.jsonl"
    kept = path.read_text()
    lines = [json.loads(line) for line in kept.splitlines()]
    longer = 1.5 * sum(killed.seconds("cls")) / len(killed.seconds("rec"))
    try:
        changed = [line | ({"seconds": longer} if line["stage"] == "pretext" else {}) for line in lines]
        path.write_text("".join(f"{json.dumps(line)}\n" for line in changed))
        page = write_study_report(killed.out).path.read_text()
        assert "Methods were to train for the same seconds in stage &#39;pretext&#39;, and took &#39;rec&#39; " in page
        alike = sum(killed.seconds("cls")) / len(killed.seconds("rec"))
        changed = [line | ({"seconds": alike} if line["stage"] == "pretext" else {}) for line in lines]
        path.write_text("".join(f"{json.dumps(line)}\n" for line in changed))
        assert "Methods were to train" not in write_study_report(killed.out).path.read_text()
    finally:
        path.write_text(kept)


def test_a_dry_run_shows_the_paces_that_the_folder_has(killed: Killed, cache: Path) -> None:
    dry = command("run", killed.out.parent / "study.yaml", "--out", killed.out, "--device", "cpu", "--dry", cache=cache)
    printed, told = dry.communicate()
    assert dry.returncode == 0, told
    after = printed.split("the same seconds", 1)[1]
    for method, one in killed.paces.items():
        line = next(line.split() for line in after.splitlines() if line.split()[:2] == ["pretext", method])
        assert line[2:] == [
            "2",
            f"{one['epoch']:.3g}",
            "s",
            str(one["epochs"]),
            f"{one['epochs'] * one['epoch']:.3g}",
            "s",
        ]
