"""Workers of a study: each stage is trained once, whoever was killed or failed, and whoever is at work beside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import start_command
from helpers import train
from studies.conftest import recipe, study

from medkit.errors import InputError
from medkit.reporting.study_report import write_study_report
from medkit.studies.claims import Claims
from medkit.studies.folder import StudyFolder
from medkit.studies.reader import load_study
from medkit.studies.results import StudyResults
from medkit.studies.status import standing
from medkit.studies.trials import Expansion
from medkit.studies.work import settings_of, work

Planned = Callable[..., StudyFolder]


def go(folder: StudyFolder, say: Callable[[str], None] = lambda text: None) -> None:
    work(folder, settings_of(folder, device="cpu", precision="fp32", threads=1), say)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(folder / "cache"))
        yield folder


def one_seed(*methods: str) -> dict[str, Any]:
    """The study with one seed, and with some of its methods."""
    said = study()
    said["vary"]["seed"] = [1]
    said["methods"] = {name: change for name, change in said["methods"].items() if name in methods}
    return said


@pytest.fixture(scope="module")
def done(home: Path, planned: Planned) -> StudyFolder:
    """The study of two pretexts and none, run by one worker."""
    said = one_seed("scratch", "cls", "rec")
    said["claim"] = {
        "says": "Classification teaches more.",
        "better": ["cls"],
        "source": "nobody",
        "limits": "One seed.",
    }
    folder = planned(home / "done", said)
    go(folder)
    return folder


def logs(folder: StudyFolder) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in folder.path.glob("trials/*/log.txt")}


def test_all_trials_finish(done: StudyFolder) -> None:
    found = standing(done)
    assert (found.count("finished"), len(found.trials)) == (6, 6)
    assert found.seconds == 0


def test_no_stage_is_trained_twice_and_the_logs_say_so(done: StudyFolder) -> None:
    assert StudyResults.read(done.path).twice() == []
    said = logs(done)
    assert sum("pretext: trained already" in text for text in said.values()) == 2
    trained = [path.parts[-2:] for path in done.path.glob("trials/*/checkpoints/pretext")]
    assert len(trained) == 2
    assert sum("finer: trained already" in text for text in said.values()) == 0


def test_the_first_seed_is_measured_on_its_own_training_data_beside_its_results(done: StudyFolder) -> None:
    for trial in done.trials():
        found = done.own_data(trial)
        assert found is not None
        assert (found["metric"], found["trivial"]) == ("auc", 0.5)
        results = json.loads((done.path / "trials" / trial.name / "results.json").read_text())
        assert set(results["finer"]) == {"test"}


def test_the_report_says_what_has_become_of_the_claim(done: StudyFolder) -> None:
    written = write_study_report(done.path)
    assert written.sentences[0].startswith(
        "undecided: Classification teaches more. (shown in 0 of 2 comparisons; 2 could"
    )
    page = written.path.read_text()
    assert "<h2>The claim is undecided</h2>" in page
    assert "<strong>What this study cannot say:</strong> One seed." in page
    assert json.loads((done.path / "summary.json").read_text())["claim"]["found"] == "undecided"


def test_trials_of_other_versions_are_told_in_the_report(done: StudyFolder, tmp_path: Path) -> None:
    shutil.copytree(done.path, tmp_path / "mixed")
    assert "the same versions" not in write_study_report(tmp_path / "mixed").path.read_text()
    state = tmp_path / "mixed" / "trials" / "cls-seed1-lrfast" / "state.json"
    kept = json.loads(state.read_text())
    kept["begun"]["finer"]["torch"] = "1.0"
    state.write_text(json.dumps(kept))
    page = write_study_report(tmp_path / "mixed").path.read_text()
    assert "not all trained with the same versions: torch 1.0 (1 trial)" in page


def test_trials_with_other_numbers_of_threads_are_told_in_the_report(done: StudyFolder, tmp_path: Path) -> None:
    shutil.copytree(done.path, tmp_path / "mixed")
    assert "number of threads" not in write_study_report(tmp_path / "mixed").path.read_text()
    state = tmp_path / "mixed" / "trials" / "cls-seed1-lrfast" / "state.json"
    kept = json.loads(state.read_text())
    kept["begun"]["finer"]["threads"] = "7"
    state.write_text(json.dumps(kept))
    page = write_study_report(tmp_path / "mixed").path.read_text()
    assert "not all trained with the same number of threads" in page
    assert "7 (1 trial)" in page


def test_stages_are_shared_within_the_study_alone(done: StudyFolder, home: Path) -> None:
    assert not (home / "cache" / "stages").exists()
    entries = [json.loads(path.read_text())["runs"] for path in (done.path / "stages").iterdir()]
    assert all(not os.path.isabs(name) for names in entries for name in names)


def test_a_trial_is_the_run_that_its_recipe_is_by_hand(done: StudyFolder, home: Path, tmp_path: Path) -> None:
    train(done.path / "recipes" / "cls-seed1-lrfast.yaml", tmp_path / "hand", quiet=True, device="cpu", link=False)
    for name in ("results.json", "cases.csv"):
        assert (tmp_path / "hand" / name).read_bytes() == (done.path / "trials/cls-seed1-lrfast" / name).read_bytes()


def test_trials_of_a_worker_that_was_killed_are_gone_on_with(
    done: StudyFolder, home: Path, tmp_path: Path, planned: Planned
) -> None:
    folder = planned(tmp_path, one_seed("scratch", "cls"))
    worker = start_command(["study", "work", folder.path, "--device", "cpu"], tmp_path)
    end = time.monotonic() + 200
    while not list(folder.path.glob("trials/cls-seed1-lrslow/checkpoints/*")):
        assert worker.poll() is None, worker.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    said: list[str] = []
    go(folder, said.append)
    assert "cls-seed1-lrslow: continued" in said
    assert StudyResults.read(folder.path).twice() == []
    assert standing(folder).count("finished") == 4
    one, other = (place.path / "trials/cls-seed1-lrslow/results.json" for place in (folder, done))
    assert one.read_bytes() == other.read_bytes()


def test_a_failed_trial_is_told_and_costs_only_those_that_share_what_failed(
    home: Path, tmp_path: Path, planned: Planned
) -> None:
    said = one_seed("scratch")
    said["methods"]["lost"] = {"stages.pretext.optim": {"use": "sgd", "lr": 1e30}}
    folder = planned(tmp_path, said)
    go(folder)
    found = standing(folder)
    assert found.count("finished") == 2
    first, second = (found.outcomes[f"lost-seed1-lr{name}"] for name in ("slow", "fast"))
    assert "not finite" in first.error
    assert "stage 'pretext' is that of trial 'lost-seed1-lrslow', where it failed" in second.error
    assert not (folder.path / "trials" / "lost-seed1-lrfast").exists()
    folder.forget_failures()
    assert standing(folder).count("waiting") == 2


def test_a_trial_that_kills_its_workers_is_given_up(home: Path, tmp_path: Path, planned: Planned) -> None:
    folder = planned(tmp_path, one_seed("scratch"))
    for trial in folder.trials():
        for _ in range(3):
            folder.count_attempt(trial, 1)
    go(folder)
    assert {found.error for found in standing(folder).outcomes.values()} == {"a worker was killed over it 3 times"}


def test_what_another_worker_claims_is_left_alone(tmp_path: Path) -> None:
    with Claims(tmp_path) as mine, Claims(tmp_path) as other, mine.of(["a", "b"]) as held:
        assert held
        with other.of(["c", "b"]) as taken:
            assert not taken
        with other.of(["c"]) as free:
            assert free
    with Claims(tmp_path) as other, other.of(["a", "b", "c"]) as held:
        assert held


def test_a_claim_of_a_silent_machine_is_taken_over(tmp_path: Path) -> None:
    with Claims(tmp_path) as mine:
        with mine.of(["a"]):
            lock = tmp_path / "a" / "run.lock"
            said = json.loads(lock.read_text()) | {"host": "elsewhere", "machine": "another", "pids": "others"}
        lock.write_text(json.dumps(said))
        with mine.of(["a"]) as held:
            assert not held
        long_ago = time.time() - 1000
        os.utime(lock, (long_ago, long_ago))
        with mine.of(["a"]) as held:
            assert held


def refused(folder: StudyFolder, path: Path) -> str:
    read = load_study(path)
    with pytest.raises(InputError) as caught:
        folder.check(read, Expansion(read).trials())
    return str(caught.value)


def test_the_folder_of_another_study_is_refused(done: StudyFolder, tmp_path: Path, write_study: Any) -> None:
    said = study()
    said["name"] = "other_study"
    path = write_study(tmp_path, said)
    assert "the folder holds the study 'small_study', and this is 'other_study'" in refused(done, path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.docx").touch()
    assert "holds no study" in refused(StudyFolder(tmp_path / "full"), path)


def test_a_changed_trial_is_refused_and_a_further_one_is_not(
    done: StudyFolder, tmp_path: Path, write_study: Any
) -> None:
    made = recipe()
    made["stages"][1]["batch"] = 3
    message = refused(done, write_study(tmp_path, None, made))
    assert "trial 'scratch-seed1-lrslow' of another recipe: stages.finer.batch is 2 there and 3 here" in message
    said = study()
    said["vary"]["seed"] = [1, 2, 3]
    read = load_study(write_study(tmp_path, said))
    done.check(read, Expansion(read).trials())


def test_methods_that_were_measured_on_different_cases_are_not_compared(
    home: Path, tmp_path: Path, planned: Planned
) -> None:
    said = one_seed("scratch", "cls")
    said["vary"] = {"seed": [1]}
    said["methods"]["cls"] = {
        "data.d.splits.test": {"fold": "val"},
        "stages.finer.validate": None,
        "stages.pretext.validate": None,
    }
    folder = planned(tmp_path, said)
    go(folder)
    with pytest.raises(InputError, match="'scratch-seed1' and 'cls-seed1' were measured on different cases"):
        StudyResults.read(folder.path)


def test_methods_that_were_measured_on_other_images_of_the_same_names_are_not_compared(
    home: Path, tmp_path: Path, planned: Planned
) -> None:
    said = one_seed("scratch", "cls")
    said["vary"] = {"seed": [1]}
    said["methods"]["cls"] = {"data.d.source.seed": 9}
    said["compare"]["unequal"] = {"data": "a test of what is refused"}
    folder = planned(tmp_path, said)
    go(folder)
    told = "'scratch-seed1' and 'cls-seed1' were measured on different cases: of .* have another true mask"
    with pytest.raises(InputError, match=told):
        StudyResults.read(folder.path)
