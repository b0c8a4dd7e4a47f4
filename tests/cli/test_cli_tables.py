"""A stranger's pretext as a row of a table of ours, named on the command line and nowhere else."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medkit.cli.new_plugin import write_plugin

ROW = "Rotation (Gidaris et al.)"
SETS = (
    "stages.pretext.repeat.turns={objective.heads: {turn: {use: turns, hidden: 16}}}",
    "stages.classify.repeat.turns={objective.encoder: {from: pretext@turns.encoder}}",
    f"report.tables.0.rows.turns={ROW}",
)


def call(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """medkit with the plugin of the folder on Python's path, so that nothing is installed."""
    package = folder / "medkit-turns"
    environ = {"MEDKIT_CACHE": str(folder / "cache"), "COLUMNS": "160", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "medkit", *map(str, arguments), "--plugin", package / "medkit_turns" / "__init__.py"],
        cwd=folder,
        env=os.environ | environ | {"PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the run, and what the command printed."""
    folder = tmp_path_factory.mktemp("turns")
    write_plugin("turns", folder)
    made = call(folder, "run", "tiny_table6", "--out", "run", *(word for text in SETS for word in ("--set", text)))
    assert made.returncode == 0, made.stderr
    return folder / "run", made.stdout


@pytest.mark.slow
def test_the_row_is_trained_on_the_stranger_s_pretext(done: tuple[Path, str]) -> None:
    lines = [json.loads(line) for line in (done[0] / "metrics.jsonl").read_text().splitlines()]
    (mine,) = (line for line in lines if line["stage"] == "pretext@turns")
    assert "train/turn" in mine


@pytest.mark.slow
def test_the_row_stands_in_the_table_that_the_command_prints(done: tuple[Path, str]) -> None:
    table = done[1][done[1].index("Table 6, classification") :]
    (row,) = (line for line in table.splitlines() if line.strip().startswith(ROW))
    assert "[" in row


@pytest.mark.slow
def test_a_stage_with_a_table_is_not_printed_twice(done: tuple[Path, str]) -> None:
    assert "classify@turns" not in done[1]


@pytest.mark.slow
def test_the_row_has_its_number_time_and_memory_in_the_csv(done: tuple[Path, str]) -> None:
    with (done[0] / "tables" / "table_6_classification.csv").open(newline="") as file:
        mine = {row["metric"]: row["value"] for row in csv.DictReader(file) if row["row"] == ROW}
    assert 0 <= float(mine["auc"]) <= 1
    assert float(mine["train_seconds"]) > 0
    assert float(mine["peak_mb"]) > 0


@pytest.mark.slow
def test_the_row_is_in_the_report(done: tuple[Path, str]) -> None:
    assert f'<th scope="row">{ROW}</th>' in (done[0] / "report.html").read_text()


@pytest.mark.slow
def test_report_gives_the_table_as_json(done: tuple[Path, str]) -> None:
    found = json.loads(call(done[0].parent, "report", done[0], "--json").stdout)
    assert [row["name"] for row in found[0]["tables"][0]["rows"]][-1] == ROW


WILD = """\
medkit: 1
name: wild
data:
  ich:
    source: {use: "phantoms:head_ct", patients: 8, size: [64, 64], slices: 4, centers: [A]}
    splits: {train: {fold: train}, test: {fold: test}}
    prepare: [{use: window, low: 0, high: 80}, {use: resize, size: [32, 32]}]
stages:
  - name: classify
    batch: 2
    epochs: 2
    objective:
      use: multitask
      encoder: {use: timm, model: test_resnet}
      heads: {cls: {use: slice_class}}
    metrics: [auc]
    repeat: {wild: {optim: {use: sgd, lr: 1e30}}}
report:
  splits: [test]
  tables: [{title: Tame and wild, stage: classify, rows: {wild: Wild, classify: Tame}}]
"""


@pytest.mark.slow
def test_a_run_that_loses_a_row_still_prints_the_table_and_says_why(medkit, tmp_path: Path) -> None:
    (tmp_path / "wild.yaml").write_text(WILD)
    done = medkit("run", "wild.yaml", "--out", "run")
    assert done.returncode == 1
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["Wild", "(failed)", "–"] in rows
    assert any(row[:1] == ["Tame"] and "[" in " ".join(row) for row in rows)
    assert "Wild failed:" in done.stdout
