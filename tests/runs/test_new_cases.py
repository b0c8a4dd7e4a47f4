"""A finished run is measured on a manifest of cases that came after it, through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands import run_command
from helpers import train, write_noise
from safetensors.torch import save_file

import medkit
from medkit.engine.checkpoint import read_tensors
from medkit.errors import RunError
from medkit.evaluation.results import read_results
from medkit.recipe import recipe_from
from medkit.runs.file_digest import digest
from medkit.runs.folder import RunFolder
from medkit.runs.new_cases import later

FOLDS = ["train", "train", "val", "val", "test", "test"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scans of hospitals ``a`` and ``b``, a run on those of ``a``, and copies of some under other names."""
    root = tmp_path_factory.mktemp("hospitals")
    source = write_noise(root / "a", [f"a{i}" for i in range(6)], FOLDS)
    write_noise(root / "b", [f"b{i}" for i in range(6)], ["test"] * 6, first=100)
    write_noise(root / "numbered", [f"a{i}" for i in range(6)], ["test"] * 6, first=200)
    write_noise(root / "copies", [f"c{i}" for i in range(6)], ["test"] * 6)
    window = {"use": "window", "low": 0, "high": 80}
    block = {"source": source, "splits": {s: {"fold": s} for s in ("train", "val", "test")}, "prepare": [window]}
    encoder = {"use": "timm", "model": "test_resnet", "in_channels": 1}
    objective = {"use": "multitask", "encoder": encoder, "heads": {"cls": {"use": "smartnet:slice_class"}}}
    stage = {"name": "classify", "batch": 4, "data": "d", "objective": objective, "metrics": ["auc"]}
    plain = {"medkit": 1, "name": "t", "seed": 1, "data": {"d": block}, "stages": [stage]}
    train(recipe_from(plain), root / "run", device="cpu", quiet=True)
    return root


def evaluate(home: Path, manifest: str, *words: str) -> tuple[int, str]:
    done = run_command(["evaluate", "run", "--data", f"{manifest}/m.csv", *words], home)
    return done.returncode, done.stdout + done.stderr


def test_all_cases_of_the_new_manifest_are_measured_under_the_given_name(home: Path) -> None:
    before = json.loads((home / "run" / "results.json").read_text())
    code, text = evaluate(home, "b", "--split", "hospital_b")
    assert code == 0, text
    found = read_results(home / "run")["classify"]
    assert found["hospital_b"]["auc"].patients == 6
    assert found["hospital_b"]["auc"].seen == 0
    assert "'medkit report run'" in text
    after = json.loads((home / "run" / "results.json").read_text())
    assert {key: after["classify"][key] for key in before["classify"]} == before["classify"]


def test_python_measures_them_too(home: Path) -> None:
    run = medkit.open(home / "run")
    found = run.evaluate("from_python", data=home / "b" / "m.csv")
    assert found["classify"]["from_python"]["auc"].patients == 6
    assert run.results is found


def test_the_report_says_that_these_cases_came_after_the_run(home: Path) -> None:
    evaluate(home, "b", "--split", "hospital_b")
    assert run_command(["report", "run"], home).returncode == 0
    page = (home / "run" / "report.html").read_text()
    assert "measured after the run, on all cases of m.csv" in page
    assert "hospital_b" in page


def test_patients_of_the_training_set_are_refused(home: Path) -> None:
    code, text = evaluate(home, "numbered", "--split", "other")
    assert code != 0
    assert "4 of 6 patients were" in text
    assert "--space" in text


def test_equal_names_in_another_space_are_other_people(home: Path) -> None:
    code, text = evaluate(home, "numbered", "--split", "other_hospital", "--space", "b")
    assert code == 0, text
    assert read_results(home / "run")["classify"]["other_hospital"]["auc"].seen == 0
    notices = later(RunFolder(home / "run"))
    assert any("'other_hospital'" in text and "names are taken as those of 'b'" in text for text in notices)


def test_copies_of_training_images_under_other_names_are_refused(home: Path) -> None:
    code, text = evaluate(home, "copies", "--split", "copies")
    assert code != 0
    assert "copies" in text
    assert "copies" not in read_results(home / "run")["classify"]


def test_a_split_of_the_recipe_is_not_replaced(home: Path) -> None:
    code, text = evaluate(home, "b", "--split", "test")
    assert code != 0
    assert "'test' is a split of the recipe" in text


def test_a_run_on_phantoms_takes_no_manifest(home: Path, tmp_path: Path) -> None:
    assert run_command(["run", "tiny_ich_seg", "--out", "phantoms", "--device", "cpu"], home).returncode == 0
    done = run_command(["evaluate", "phantoms", "--data", "b/m.csv", "--split", "new"], home)
    assert done.returncode != 0
    assert "reads 'phantoms:head_ct', which a manifest cannot take the place of" in done.stderr


def test_a_space_without_new_cases_is_refused(home: Path) -> None:
    done = run_command(["evaluate", "run", "--split", "test", "--space", "b"], home)
    assert done.returncode != 0
    assert "--data" in done.stderr


@pytest.mark.parametrize("name", ["../x", "a/b", "", "two words", "curve@0.1"])
def test_a_name_that_cannot_be_one_of_a_recipe_is_refused(home: Path, name: str) -> None:
    before = (home / "run" / "results.json").read_bytes()
    code, text = evaluate(home, "b", "--split", name)
    assert code == 2
    assert "--split: the name" in text
    assert (home / "run" / "results.json").read_bytes() == before


def test_the_report_names_only_the_cases_that_the_numbers_are_of(home: Path) -> None:
    words = ["evaluate", "run", "--split", "again", "--space", "b", "--data"]
    for manifest in ("b/m.csv", "numbered/m.csv"):
        assert run_command([*words, manifest], home).returncode == 0
    (told,) = [text for text in later(RunFolder(home / "run")) if "'again'" in text]
    assert told.startswith("classify on 'again' was measured after the run")
    assert digest(home / "numbered" / "m.csv")[:12] in told


def test_numbers_written_before_a_failure_say_that_they_came_after_the_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        raise RunError("the disk is full")

    monkeypatch.setattr("medkit.runs.measure.merge_cases", fail)
    with pytest.raises(RunError, match="the disk is full"):
        medkit.open(home / "run").evaluate("broken_off", data=home / "b" / "m.csv")
    assert "broken_off" in read_results(home / "run")["classify"]
    assert any("'broken_off' was measured after the run" in text for text in later(RunFolder(home / "run")))


def test_a_stage_that_is_not_finished_is_refused(home: Path, tmp_path: Path) -> None:
    run = shutil.copytree(home / "run", tmp_path / "run")
    state = json.loads((run / "state.json").read_text())
    (run / "state.json").write_text(json.dumps({**state, "done": []}))
    words = ["evaluate", run, "--stage", "classify", "--data", "b/m.csv", "--split", "unfinished"]
    done = run_command(words, home)
    assert done.returncode == 2
    assert "stage 'classify' is not finished" in done.stderr
    assert "medkit resume" in done.stderr


def test_predictions_do_not_say_what_was_measured_later(home: Path, tmp_path: Path) -> None:
    assert evaluate(home, "b", "--split", "hospital_b")[0] == 0
    words = ["predict", "run", "--input", "b/100.nii", "--output", tmp_path / "found.json", "--device", "cpu"]
    assert run_command(words, home).returncode == 0
    assert "measured after the run" not in (tmp_path / "found.json").read_text()


def test_a_manifest_of_which_no_metric_counts_a_case_is_refused(home: Path) -> None:
    text = (home / "b" / "m.csv").read_text().splitlines()
    (home / "b" / "unlabelled.csv").write_text(
        "\n".join([text[0], *(f"{row.rpartition(',')[0]}," for row in text[1:])])
    )
    done = run_command(["evaluate", "run", "--data", "b/unlabelled.csv", "--split", "unlabelled"], home)
    assert done.returncode == 2
    assert "none of its cases can be counted" in done.stderr
    assert "unlabelled" not in read_results(home / "run")["classify"]


def test_new_cases_are_not_measured_again_without_their_manifest(home: Path) -> None:
    assert evaluate(home, "b", "--split", "hospital_b")[0] == 0
    done = run_command(["evaluate", "run", "--split", "hospital_b"], home)
    assert done.returncode == 2
    assert "give their manifest again: --data FILE" in done.stderr


def test_runs_that_are_compared_show_which_new_cases_a_number_is_of(home: Path, tmp_path: Path) -> None:
    assert evaluate(home, "b", "--split", "hospital_b")[0] == 0
    done = run_command(["compare", "run", shutil.copytree(home / "run", tmp_path / "copy")], home)
    assert f"hospital_b (m.csv, {digest(home / 'b' / 'm.csv')[:8]})" in " ".join(done.stdout.split())


def test_a_run_that_did_not_record_whom_it_has_seen_takes_no_new_cases(home: Path, tmp_path: Path) -> None:
    run = shutil.copytree(home / "run", tmp_path / "run")
    shutil.rmtree(run / "ledgers")
    for path in (run / "weights").iterdir():
        tensors, _ = read_tensors(path)
        save_file(tensors, path)
    done = run_command(["evaluate", run, "--data", "b/m.csv", "--split", "new"], home)
    assert done.returncode == 2
    assert "nothing is recorded of whom stage 'classify' has seen" in done.stderr
