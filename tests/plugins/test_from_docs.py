"""Plugins written from docs/plugins.md alone: a bound on gradients, an objective, a tracker, a section of the report."""

from __future__ import annotations

import ast
import csv
import importlib
import json
import re
from pathlib import Path

import pytest
import torch
from commands import run_command
from safetensors.torch import load_file

from medkit import testing
from medkit.runs.handle import Run

FOLDER = Path(__file__).resolve().parents[1] / "plugins_from_docs"
NAMES = ("by_value", "mean_teacher", "diary", "speed")
RECIPE = """
medkit: 1
name: from_docs
seed: 3
data:
  d:
    source: {use: "phantoms:head_ct", patients: 6, size: [32, 32], slices: 4}
    splits: {train: {fold: train}, val: {fold: val}, test: {fold: test}}
    prepare: [{use: window, low: 0, high: 80}]
stages:
  - name: s
    batch: 2
    epochs: 2
    objective: {use: mean_teacher, encoder: {use: timm, model: test_resnet}, head: slice_class, decay: 0.5}
    optim: {use: sgd, lr: 1.0, momentum: 0}
    clip: {use: by_value, limit: 1.0e-4}
    metrics: [auc]
report: {maps: {cases: 0}}
"""


def train(folder: Path, *options: str) -> Path:
    (folder / "r.yaml").write_text(RECIPE)
    options = ("--track", "{use: diary, steps: true}", *options)
    plugins = [word for name in NAMES for word in ("--plugin", str(FOLDER / f"{name}.py"))]
    out = folder / "run"
    words = ["run", "r.yaml", "--out", out, *plugins, *options]
    done = run_command(words, folder, {"MEDKIT_CACHE": str(folder / "cache")})
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run at a rate that moves no weight."""
    return train(tmp_path_factory.mktemp("untrained"), "--set", "stages.s.optim.lr=1e-30")


@pytest.mark.parametrize("name", NAMES)
def test_it_is_short_and_imports_nothing_of_medkit_s_but_what_a_plugin_may(name: str):
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    imported = {n.module for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom) and n.module}
    assert {module for module in imported if module.startswith("medkit")} == {"medkit.api"}


@pytest.mark.parametrize(
    ("kind", "name", "arguments"),
    [("clip", "by_value:ByValue", {"limit": 0.5}), ("tracker", "diary:Diary", {"steps": True})],
)
def test_a_component_keeps_every_promise_of_its_kind(kind: str, name: str, arguments: dict, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    module, _, attribute = name.partition(":")
    testing.check_component(kind, getattr(importlib.import_module(module), attribute), **arguments)


def test_the_objective_keeps_every_promise_of_its_kind(monkeypatch):
    from medkit.registry.build import build

    monkeypatch.syspath_prepend(FOLDER)
    encoder = build("encoder", "timm", model="test_resnet")
    head = build("pretext", "slice_class", channels=encoder.channels)
    constructor = importlib.import_module("mean_teacher").MeanTeacher
    testing.check_component("objective", constructor, encoder=encoder, head=head)


@pytest.mark.slow
def test_no_step_moves_a_weight_by_more_than_the_bound_allows(trained: Path, untrained: Path):
    steps = len({row[1] for row in _rows(trained) if "." in row[1]})
    assert steps == 2
    moved = 0.0
    for part in ("encoder", "head"):
        now, then = (load_file(run / "weights" / f"s.{part}.safetensors") for run in (trained, untrained))
        trained_names = [
            name for name in now if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        ]
        moved = max(moved, *(float((now[name] - then[name]).abs().max()) for name in trained_names))
    assert 1e-4 < moved <= steps * 1e-4 * 1.001


def _rows(run: Path) -> list[list[str]]:
    with (run / "trackers" / "diary.csv").open() as file:
        return list(csv.reader(file))


@pytest.mark.slow
def test_the_teacher_is_the_average_of_the_students(trained: Path, untrained: Path):
    teacher, student, begun = (
        load_file(run / "weights" / f"s.{part}.safetensors")[
            "1.linear.weight" if part == "teacher" else "linear.weight"
        ]
        for run, part in ((trained, "teacher"), (trained, "head"), (untrained, "head"))
    )
    # Two steps with a decay of 0.5: w0/4 + w1/4 + w2/2, where w1 is one step from w0, so at most 1e-4.
    assert float((teacher - (begun + student) / 2).abs().max()) <= 0.25e-4 * 1.001
    assert float((teacher - student).abs().max()) > 0.25e-4


@pytest.mark.slow
def test_the_tracker_has_every_epoch_and_the_end(trained: Path):
    rows = _rows(trained)
    assert rows[0] == ["run", "started", "from_docs", "3"]
    assert rows[-1] == ["run", "ended", "finished", ""]
    assert [row[1] for row in rows if row[2] == "train/agreement"] == ["1", "2"]
    assert [row[1] for row in rows if row[2] == "test/auc"] == ["end"]


@pytest.mark.slow
def test_the_section_is_in_the_report(trained: Path):
    assert "seconds an epoch" in (trained / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_run_keeps_the_plugins_it_was_made_with(trained: Path):
    assert set(json.loads((trained / "environment.json").read_text())["plugin_files"]) == set(NAMES)


def blocks() -> dict[str, str]:
    """The Python examples of docs/plugins.md by the titles that they stand under."""
    page = (FOLDER.parents[1] / "docs" / "plugins.md").read_text(encoding="utf-8")
    sections = page.split("\n## ")[1:]
    return {
        text.splitlines()[0]: found[1] for text in sections if (found := re.search(r"```python\n(.*?)```", text, re.S))
    }


@pytest.mark.parametrize(
    ("title", "kind", "attribute", "arguments"),
    [
        ("A metric", "metric", "VolumeError", {}),
        ("A bound on gradients", "clip", "EachNorm", {"limit": 0.5}),
        ("An objective", "objective", "Averaged", {"generator": torch.nn.Conv2d(1, 1, 3, padding=1)}),
        ("A tracker of your own", "tracker", "Lines", {}),
    ],
)
def test_the_example_of_the_page_keeps_every_promise_of_its_kind(
    title, kind, attribute, arguments, tmp_path, monkeypatch
):
    name = f"page_{kind}"
    (tmp_path / f"{name}.py").write_text(blocks()[title])
    monkeypatch.syspath_prepend(tmp_path)
    testing.check_component(kind, getattr(importlib.import_module(name), attribute), **arguments)


def test_the_page_s_section_of_a_report_answers_title_and_html(tmp_path, monkeypatch):
    (tmp_path / "page_section.py").write_text(blocks()["A section of the report"])
    monkeypatch.syspath_prepend(tmp_path)
    run = Run(tmp_path, {"<s>": {"test": {}, "external": {}}})
    ((title, html),) = importlib.import_module("page_section").medkit_report(run)
    assert title == "Test sets"
    assert "<li>&lt;s&gt;: 2 test sets</li>" in html
