"""No patient is tested, or chooses an epoch, who was seen in training anywhere in the chain; unless it is allowed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import go_on, write_noise
from seen_recipes import PHANTOMS, REASON, block, chain, recipe, refused, reported, run, stage, weights

import medkit
from medkit.data.copies import image_digests
from medkit.data.nifti import write_nifti
from medkit.errors import InputError, RunError
from medkit.evaluation.evaluate import read_results
from medkit.recipe import bundled, load_recipe, recipe_from
from medkit.recipe.seen import check_seen
from medkit.runs.measure import evaluate_again
from medkit.runs.predict import predict

TEST = {"A0004", "A0005"}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path_factory.getbasetemp() / "seen-cache"))


def test_a_pretext_of_another_block_that_trains_on_test_patients_is_refused(tmp_path: Path) -> None:
    # Another size makes it another source: only the patients show that it is the same one.
    other = block({**PHANTOMS, "size": [48, 48]}, train={"fold": ["train", "test"]})
    text = refused(chain(other), tmp_path / "run")
    assert "stage 'classify' is tested on 'internal', and 2 of 2 patients were trained on in stage 'pretext'" in text
    assert "A0004, A0005" in text
    assert "allow_seen" in text


def test_phantoms_of_another_seed_are_other_patients(tmp_path: Path) -> None:
    other = block({**PHANTOMS, "seed": 5}, train={"fold": ["train", "test"]})
    folder = run(chain(other), tmp_path / "run")
    assert read_results(folder)["classify"]["internal"]["auc"].seen == 0


def test_training_on_the_test_set_is_refused(tmp_path: Path) -> None:
    text = refused(recipe(stage("classify", train="internal")), tmp_path / "run")
    assert "trained on in stage 'classify' (split 'internal' of 'd')" in text


def test_a_test_set_that_chooses_the_epoch_is_refused(tmp_path: Path) -> None:
    chosen = stage("classify", validate="internal", keep_best={"metric": "auc", "split": "internal"})
    assert "used to choose the weights" in refused(recipe(chosen), tmp_path / "run")


def test_a_test_set_that_is_looked_at_after_every_epoch_is_refused(tmp_path: Path) -> None:
    assert "validated on" in refused(recipe(stage("classify", validate="internal")), tmp_path / "run")


def test_validation_on_patients_that_the_pretext_trained_on_is_refused(tmp_path: Path) -> None:
    text = refused(chain(block(train={"fold": ["train", "val"]})), tmp_path / "run")
    assert "'classify' is validated on 'val', and 2 of 2 patients were trained on" in text


def test_test_sets_may_overlap_and_so_may_training_sets(tmp_path: Path) -> None:
    splits = {
        "few": {"id": ["A0000", "A0001"]},
        "train": {"fold": "train"},
        "val": {"fold": "val"},
        "internal": {"fold": "test"},
        "one": {"id": ["A0007"]},
    }
    plain = recipe(stage("classify"), stage("again", train="few"), report={"splits": []})
    plain["data"]["d"] = block({**PHANTOMS, "patients": 8}, **splits)
    results = read_results(run(plain, tmp_path / "run"))
    assert {name: sorted(found) for name, found in results.items()} == {
        "classify": ["internal", "one"],
        "again": ["internal", "one"],
    }


def test_a_permission_is_told_above_the_results_and_at_every_number(tmp_path: Path) -> None:
    plain = chain(block(train={"fold": ["train", "test"]}), allow_seen={"internal": REASON})
    plain["report"]["tables"] = [{"title": "One", "stage": "classify"}]
    folder = reported(plain, tmp_path / "run")
    value = read_results(folder)["classify"]["internal"]["auc"]
    counts = {name: getattr(value, name) for name in ("patients", "cases", "slices", "seen")}
    assert counts == {"patients": 2, "cases": 2, "slices": 8, "seen": 2}
    page = (folder / "report.html").read_text()
    assert REASON.replace("&", "&amp;") in page
    assert "2 of 2 patients were trained on in stage" in page
    assert f"{value.value:.3f}†" in page
    table = (folder / "tables" / "one.md").read_text()
    assert f"{value.value:.3f}†" in table
    assert REASON in table
    assert "2 patients were seen in training" in (folder / "log.txt").read_text()
    assert not any(name in (folder / "log.txt").read_text() for name in TEST)


def test_validation_on_training_patients_is_told_where_it_is_allowed(tmp_path: Path) -> None:
    plain = chain(block(train={"fold": ["train", "val"]}), allow_seen={"val": REASON})
    page = (reported(plain, tmp_path / "run") / "report.html").read_text()
    assert "classify is validated on &#39;val&#39;, and 2 of 2 patients were trained on in stage" in page


def test_a_renamed_copy_of_a_training_image_ends_the_stage(tmp_path: Path) -> None:
    source = write_noise(
        tmp_path / "data", ["001", "002", "003", "004", "005"], ["train", "train", "val", "test", "test"]
    )
    shutil.copy(tmp_path / "data" / "0.nii", tmp_path / "data" / "3.nii")
    plain = recipe(stage("classify"))
    plain["data"]["d"] = block(source)
    with pytest.raises(RunError, match="1 cases of 'internal' show images that were seen in training, under other"):
        run(plain, tmp_path / "run")
    plain["report"]["allow_seen"] = REASON
    folder = reported(plain, tmp_path / "allowed")
    assert read_results(folder)["classify"]["internal"]["auc"].seen == 1
    assert "seen in images that are copies" in (folder / "report.html").read_text()


def test_copies_are_found_in_weights_of_another_run_too(tmp_path: Path) -> None:
    folds = ["train", "train", "val", "test"]
    plain = recipe(stage("first"))
    plain["data"]["d"] = block(write_noise(tmp_path / "one", ["001", "002", "003", "004"], folds))
    before = run(plain, tmp_path / "before")
    source = write_noise(tmp_path / "two", ["a", "b", "c", "d"], folds, first=10)
    shutil.copy(tmp_path / "one" / "1.nii", tmp_path / "two" / "13.nii")
    plain = recipe(stage("classify", weights(before)))
    plain["data"]["d"] = {**block(source), "prepare": [{"use": "window", "low": 20, "high": 60}]}
    with pytest.raises(RunError, match=r"1 cases of 'internal' show images .*13\.nii"):
        run(plain, tmp_path / "run")


def test_a_prediction_says_whether_its_image_was_seen(tmp_path: Path) -> None:
    folds = ["train", "train", "val", "test"]
    plain = recipe(stage("classify"))
    plain["data"]["d"] = block(write_noise(tmp_path / "data", ["001", "002", "003", "004"], folds))
    folder = run(plain, tmp_path / "run")
    said = {}
    for name in ("0", "3"):
        copy = shutil.copy(tmp_path / "data" / f"{name}.nii", tmp_path / f"other{name}.nii")
        said[name] = predict(folder, copy, tmp_path / name, device="cpu")["seen_in_training"]
    assert said == {"0": True, "3": "unknown"}  # a NIfTI file does not say whose it is


def test_a_patient_is_known_by_the_number_in_a_dicom_header(tmp_path: Path, write_ct: Callable[..., None]) -> None:
    folds = ["train", "train", "val", "test"]
    plain = recipe(stage("classify"))
    plain["data"]["d"] = block(write_noise(tmp_path / "data", ["001", "002", "003", "004"], folds))
    folder = run(plain, tmp_path / "run")
    voxels = np.random.default_rng(99).normal(30, 9, (4, 32, 32)).round()
    voxels[:, :4] = -1000
    for number in ("002 ", "004"):
        write_ct(tmp_path / "scans" / number.strip(), voxels, PatientID=number)
    found = [
        predict(folder, tmp_path / "scans" / number, tmp_path / f"out{number}", device="cpu")
        for number in ("002", "004")
    ]
    assert [one["seen_in_training"] for one in found] == [True, "unknown"]  # "004" may be "003"
    said = {str(value).strip() for one in found for value in one["input"].values()}
    assert not {"002", "004"} & said  # as a whole: the digits of a UID are random


def test_slices_without_structure_are_no_copies() -> None:
    air = np.full((3, 64, 64), -1000, np.int16)
    assert image_digests(air) == ()
    scan = np.concatenate([air, np.random.default_rng(0).normal(30, 9, (4, 64, 64)).astype(np.int16)])
    assert len(image_digests(scan)) == 2
    assert image_digests(scan.astype(np.float32) * 2 + 5) == image_digests(scan)
    assert set(image_digests(scan[:, ::-1])).isdisjoint(image_digests(scan))


def test_a_permission_for_one_split_allows_no_other(tmp_path: Path) -> None:
    plain = recipe(stage("classify", train="internal"), report={"allow_seen": {"val": REASON}})
    assert "'internal'" in refused(plain, tmp_path / "run")


def test_a_permission_needs_a_reason() -> None:
    with pytest.raises(InputError, match="no reason is given"):
        recipe_from(recipe(stage("classify"), report={"allow_seen": " "}))


def test_equal_names_of_two_manifests_are_one_patient_unless_their_spaces_differ(tmp_path: Path) -> None:
    folds = ["train", "train", "val", "test"]
    here = write_noise(tmp_path / "here", ["001", "002", "003", "004"], folds)
    there = write_noise(tmp_path / "there", ["004 ", "005", "006", "007"], folds)
    plain = chain(block({**there, "space": "east"}, train={"fold": "train"}))
    plain["data"]["d"] = block(here)
    folder = run(plain, tmp_path / "run")
    assert read_results(folder)["classify"]["internal"]["auc"].seen == 0
    del plain["data"]["e"]["source"]["space"]
    text = refused(plain, tmp_path / "other")
    assert "004" in text
    assert "'space'" in text


def manifests(tmp_path: Path, tested: str, trained: str) -> dict[str, Any]:
    """A pretext that trains on a patient, and a stage that is tested on one whose name is written as ``tested``."""
    here = write_noise(tmp_path / "here", ["1", "2", "3", tested], ["train", "train", "val", "test"])
    there = write_noise(tmp_path / "there", [trained, "5", "6"], ["train"] * 3)
    return {**chain(block(there, train={"fold": "train"})), "data": {"d": block(here), "e": block(there, train={})}}


@pytest.mark.parametrize(("tested", "trained"), [("P-01", "p1"), ("p_1", "P 001"), ("7", "7.0"), ("p1", "P1")])
def test_names_written_in_other_ways_are_told_above_the_results(tmp_path: Path, tested: str, trained: str) -> None:
    folder = run(manifests(tmp_path, tested, trained), tmp_path / "run")
    notices = json.loads((folder / "environment.json").read_text())["notices"]
    assert any("1 of 1 patients of 'internal' (classify) have names that differ" in text for text in notices)


def test_other_names_are_not_told(tmp_path: Path) -> None:
    folder = run(manifests(tmp_path, "p1-1", "p11"), tmp_path / "run")
    assert "have names that differ" not in (folder / "environment.json").read_text()


def test_two_ways_of_unicode_to_write_a_name_are_one_patient(tmp_path: Path) -> None:
    text = refused(manifests(tmp_path, "M\u00fcller", "Mu\u0308ller"), tmp_path / "run")
    assert "1 of 1 patients was trained on in stage 'pretext'" in text


def test_cases_made_of_one_scan_show_one_patient_whatever_they_are_called(tmp_path: Path) -> None:
    heads = medkit.build("source", "phantoms:head_ct", patients=2, size=(64, 64), slices=16)
    scan = heads.load(heads.cases()[0]).image
    write_nifti(scan, tmp_path / "scan.nii")
    shutil.copy(tmp_path / "scan.nii", tmp_path / "copy.nii")
    inserted = {"use": "phantoms:inserted_bleeds", "path": str(tmp_path / "scan.nii"), "cases": 6}
    pretext = stage("pretext", data="e", validate=None, evaluate=[], metrics=[])
    pairs = block({"use": "mtdgan:low_dose_scan", "path": str(tmp_path / "copy.nii")}, train={"fold": "train"})
    plain = recipe(pretext, stage("classify", {"from": "pretext.encoder"}), e=pairs)
    plain["data"]["d"] = block(inserted)
    text = refused(plain, tmp_path / "run")
    assert "tested on 'internal', and 1 of 1 patients was trained on in stage 'pretext' (split 'train' of 'e')" in text
    assert "the patient of the scan" in text


def test_what_a_stage_saw_is_not_forgotten_when_the_manifest_changes(tmp_path: Path) -> None:
    folds = ["train", "train", "val", "test"]
    source = write_noise(tmp_path / "data", ["001", "002", "003", "004"], folds)
    plain = recipe(stage("classify"))
    plain["data"]["d"] = block(source)
    folder = run(plain, tmp_path / "run")
    table = tmp_path / "data" / "m.csv"
    table.write_text(table.read_text().replace("001,train", "001,test"))
    with pytest.raises(InputError, match="1 of 2 patients was trained on in stage 'classify'"):
        evaluate_again(folder, "internal", device="cpu")
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, "done": []}))  # as if it had ended before its evaluation
    with pytest.raises(InputError, match="1 of 2 patients was trained on in stage 'classify'"):
        go_on(folder, device="cpu", quiet=True)
    (folder / "state.json").write_text(json.dumps(state))
    shutil.rmtree(folder / "ledgers")  # the weights have it too
    with pytest.raises(InputError, match="1 of 2 patients was trained on in stage 'classify'"):
        evaluate_again(folder, "internal", device="cpu")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train": {"fold": "train"}}, None),
        ({"train": {"fold": ["train", "test"]}}, "'internal' is tested on, and has patients that 'pretext' trains on"),
        ({"train": {}}, "('train' of 'e')"),
        ({"train": {"fold": "test", "center": "A"}}, "has patients that 'pretext' trains on"),
        ({"train": {"fold": ["train", "val"]}}, "stages.classify.validate: 'val' is validated on"),
    ],
)
def test_check_finds_without_data_what_the_splits_themselves_tell(
    changes: dict[str, Any], expected: str | None
) -> None:
    plain = chain(block(**changes))
    plain["stages"][1]["validate"] = "val"
    found = recipe_from(plain)
    if expected is None:
        check_seen(found)
        return
    with pytest.raises(InputError, match=re.escape(expected)):
        check_seen(found)


def test_check_tells_the_line(tmp_path: Path) -> None:
    plain = recipe(stage("classify", evaluate=["val"]))
    (tmp_path / "r.yaml").write_text(json.dumps(plain, indent=1))
    line = (tmp_path / "r.yaml").read_text().splitlines().index('   "evaluate": [') + 1
    with pytest.raises(InputError, match=rf"r\.yaml:{line}:\d+: stages\.classify\.evaluate: 'val' is tested on"):
        check_seen(load_recipe(tmp_path / "r.yaml"))


@pytest.mark.parametrize("name", [name for name, _ in bundled()])
def test_no_bundled_recipe_tests_what_it_trains_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in re.findall(r"\$\{(\w+)\}", dict(bundled())[name].read_text()):
        monkeypatch.setenv(variable, "somewhere.csv")
    check_seen(load_recipe(name))


@pytest.mark.parametrize("name", [name for name, _ in bundled() if "thesis" not in name and "real" not in name])
def test_no_bundled_recipe_leaks(name: str) -> None:
    from medkit.engine.runtime import Runtime
    from medkit.runs.workbench import Workbench

    found = load_recipe(name)
    assert found.report.allow_seen is None
    Workbench(found, Runtime.start(device="cpu")).seen.check_all()
