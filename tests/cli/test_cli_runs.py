"""``run``, ``evaluate``, ``report`` and ``compare`` on a tiny run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from medkit.runs.folder import RunFolder
from medkit.runs.listing import listed
from medkit.runs.lock import locked


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_run_leaves_the_folder_that_is_promised(finished):
    names = {path.name for path in finished.iterdir()}
    files = {"recipe.yaml", "environment.json", "metrics.jsonl", "results.json", "cases.csv", "report.html", "log.txt"}
    assert files | {"weights", "checkpoints"} <= names


def test_run_keeps_the_seed_it_was_given(finished):
    assert json.loads((finished / "environment.json").read_text())["seed"] == 3


def test_results_have_a_value_an_interval_and_counts(finished):
    results = json.loads((finished / "results.json").read_text())
    for split in ("internal", "external1"):
        value = results["classify"][split]["auc"]
        assert {"value", "low", "high", "n", "n_empty"} <= set(value)


def test_a_stage_without_metrics_prints_no_table(medkit):
    done = medkit("run", "tiny_ich_cls", "--set", "stages.pretext.metrics=[]", "--set", "report.maps=null")
    assert done.returncode == 0, done.stderr
    assert "classify" in done.stdout
    assert "pretext" not in done.stdout


def test_a_dry_run_shows_every_stage_and_leaves_no_run_folder(medkit, tmp_path):
    done = medkit("run", "tiny_ich_cls", "--dry")
    assert done.returncode == 0, done.stderr
    assert "classify" in done.stdout
    assert [p.name for p in tmp_path.iterdir() if p.name != "cache"] == []


def test_evaluate_adds_a_split_to_the_results(medkit, run):
    done = medkit("evaluate", run, "--split", "val", "--stage", "classify", "--json")
    assert done.returncode == 2
    assert "'--allow-seen REASON'" in done.stderr  # the run was validated on it
    done = medkit("evaluate", run, "--split", "val", "--stage", "classify", "--json", "--allow-seen", "a look")
    assert done.returncode == 0, done.stderr
    assert "auc" in json.loads(done.stdout)["classify"]
    assert "val" in json.loads((run / "results.json").read_text())["classify"]


def test_evaluate_of_an_unknown_split_names_the_known_ones(medkit, run):
    done = medkit("evaluate", run, "--split", "externl1")
    assert done.returncode == 2
    assert "external1" in done.stderr


def test_report_is_written_again(medkit, run):
    (run / "report.html").unlink()
    done = medkit("report", run)
    assert done.returncode == 0, done.stderr
    assert (run / "report.html").stat().st_size > 1000


def test_runs_lists_what_lies_there_and_how_far_it_has_come(medkit, run, tmp_path):
    left = Path(shutil.copytree(run, tmp_path / "more" / "left"))
    (left / "state.json").write_text('{"done": ["pretext"]}')
    damaged = Path(shutil.copytree(run, tmp_path / "more" / "damaged"))
    (damaged / "state.json").write_text("{")
    done = medkit("runs", tmp_path, "--json")
    found = {Path(one["folder"]).name: one for one in json.loads(done.stdout)}
    assert {name: one["status"] for name, one in found.items()} == {
        "run": "finished",
        "left": "unfinished",
        "damaged": "damaged",
    }
    assert (found["left"]["done"], found["left"]["stages"]) == (1, 2)
    assert found["run"]["result"].startswith("classify internal: auc ")
    assert f"'medkit resume {left}' continues it" in medkit("runs", tmp_path).stdout


def test_runs_says_where_runs_would_lie(medkit, tmp_path):
    done = medkit("runs")
    assert done.returncode == 2
    assert "runs: there is no such folder" in done.stderr


def test_a_run_whose_lock_is_held_is_running(run):
    folder = RunFolder(run)
    with locked(folder, "resume"):
        assert [one.status for one in listed(run)] == ["running"]
    assert [one.status for one in listed(run)] == ["finished"]


def test_the_shell_completes_commands(medkit):
    done = medkit(_MEDKIT_COMPLETE="complete_bash", COMP_WORDS="medkit ru", COMP_CWORD="1")
    assert done.stdout.split() == ["run", "runs"]


def test_compare_sets_runs_side_by_side(medkit, finished, run):
    done = medkit("compare", finished, run, "--json")
    first, second = json.loads(done.stdout).values()
    assert first == second
    assert "classify/internal/auc" in first


def test_compare_prints_intervals_and_case_counts(medkit, finished, run):
    text = medkit("compare", finished, run).stdout
    row = next(line for line in text.splitlines() if "classify" in line and "internal" in line and "auc" in line)
    assert row.count("n=") == 2
    assert row.count("[") == 2
    assert "different cases" not in text


def test_compare_says_where_the_runs_were_tested_on_different_cases(medkit, finished, run):
    lines = (run / "cases.csv").read_text().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if line.startswith("classify,internal,"))
    (run / "cases.csv").write_text("".join(lines[:last] + lines[last + 1 :]))
    told = [line for line in medkit("compare", finished, run).stdout.splitlines() if line.startswith("note: ")]
    assert len(told) == 1
    assert "'internal' of stage 'classify' has different cases" in told[0]


def test_compare_keeps_runs_of_one_name_apart(medkit, finished, tmp_path):
    other = shutil.copytree(finished, tmp_path / "other" / finished.name)
    assert str(other) in medkit("compare", finished, other).stdout


def test_compare_refuses_the_same_run_twice(medkit, finished):
    done = medkit("compare", finished, finished / ".." / finished.name)
    assert done.returncode == 2
    assert "a run folder is given twice; name each run once" in done.stderr


def test_resume_of_a_finished_run_trains_nothing_again(medkit, run):
    before = (run / "metrics.jsonl").read_text()
    assert medkit("resume", run).returncode == 0
    assert (run / "metrics.jsonl").read_text() == before


def test_an_epoch_whose_checkpoint_was_never_written_is_told_once_after_resume(medkit, run):
    """A run killed between the first epoch's line and its checkpoint begins again, without a second line."""
    for path in (run / "checkpoints").rglob("*.safetensors"):
        path.unlink()
    (run / "state.json").write_text(json.dumps({"done": []}))
    done = medkit("resume", run)
    assert done.returncode == 0, done.stderr
    told = [
        (line["stage"], line["epoch"]) for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    ]
    assert sorted(told) == [("classify", 1), ("pretext", 1)]
