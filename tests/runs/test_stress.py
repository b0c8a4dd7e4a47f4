"""Curves over the dose: known noise, the same patients, masks as they were, and nothing else changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import go_on, train, without_keys
from safetensors.torch import load_file, save_file

import medkit
from medkit.data.at_dose import AtDose
from medkit.data.dose import Scanner
from medkit.data.volume import Volume
from medkit.errors import InputError, Problems, RunError
from medkit.evaluation.results import read_results
from medkit.recipe import Recipe, load_recipe
from medkit.runs import links
from medkit.runs.folder import RunFolder

POINTS = ["noisy@1", "noisy@0.25", "denoised@1", "denoised@0.25"]


def recipe(*changes: str) -> Recipe:
    return load_recipe("tiny_stress", set=changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stress")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(folder / "cache"))
        medkit.run(recipe(), folder / "run", quiet=True, device="cpu")
    return folder / "run"


@pytest.fixture
def cached(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDKIT_CACHE", str(run.parent / "cache"))
    return run


def test_every_dose_of_every_curve_is_measured_with_intervals_by_patients(run: Path) -> None:
    found = read_results(run)["detect"]
    assert list(found) == ["test", *POINTS]
    for point in POINTS:
        assert found[point]["dice"].n_patients == found["test"]["dice"].n_patients
        assert found[point]["auc"].patients == found["test"]["auc"].patients


def test_at_the_scans_own_dose_the_numbers_are_those_of_the_split(run: Path) -> None:
    plain = json.loads((run / "results.json").read_text())["detect"]
    assert plain["noisy@1"] == plain["test"]


def test_noise_and_denoising_change_what_the_stage_says(run: Path) -> None:
    rows = {}
    for line in (run / "cases.csv").read_text().splitlines()[1:]:
        stage, split, case, *_ = line.split(",")
        rows.setdefault((stage, split), {})[case] = line.split(",", 5)[5]
    said = [rows["detect", point] for point in POINTS]
    assert len({json.dumps(one) for one in said}) == len(POINTS)
    assert all(one.keys() == said[0].keys() for one in said)


def test_other_doses_are_tested_against_the_scans_own(run: Path) -> None:
    found = read_results(run)["detect"]
    extras = found["noisy@0.25"]["dice"].extras
    assert extras["difference"] == pytest.approx(found["noisy@0.25"]["dice"].value - found["noisy@1"]["dice"].value)
    assert 0 <= extras["p"] <= extras["p_holm"] <= 1
    assert "p" not in found["noisy@1"]["dice"].extras
    assert "p_holm" in found["noisy@0.25"]["sensitivity"].extras


def test_the_report_draws_the_curves_and_keeps_their_points_out_of_its_tables(run: Path) -> None:
    html = (run / "report.html").read_text()
    assert "At lower doses" in html
    assert "metrics of detect over the dose" in html
    assert "by a physical model" in html
    assert "Denoised by denoise where a curve says so" in html
    assert "noisy@0.25" not in html.split("resolved recipe")[0]


def test_a_stage_taken_from_another_run_brings_its_curves_along(cached: Path) -> None:
    other = cached.parent / "linked"
    train(recipe(), other, quiet=True, device="cpu", link=True)
    assert "linked with its results" in (other / "log.txt").read_text()
    plain = [json.loads((folder / "results.json").read_text()) for folder in (cached, other)]
    assert plain[0] == plain[1]


@pytest.mark.parametrize("name", ["results.json", "cases.csv"])
def test_a_run_that_has_lost_a_point_of_a_curve_says_how_it_is_measured_again(
    cached: Path, tmp_path: Path, name: str
) -> None:
    """The way out takes the weights over: nothing is trained twice."""
    for entry in (cached.parent / "cache" / links.INDEX).iterdir():
        entry.write_text(json.dumps({"runs": [str(cached)]}))
    kept = cached / name
    before = kept.read_bytes()
    if name == "results.json":
        found = json.loads(before)
        del found["detect"]["noisy@0.25"]
        kept.write_text(json.dumps(found))
    else:
        kept.write_text("".join(line for line in before.decode().splitlines(True) if ",noisy@0.25," not in line))
    try:
        with pytest.raises(RunError, match=r"of finished stage 'detect' on 'noisy@0\.25' are missing") as caught:
            medkit.resume(cached, device="cpu", quiet=True)
        assert f"'medkit run {cached}/recipe.yaml --out NEW_FOLDER --link'" in str(caught.value)
        medkit.run(cached / "recipe.yaml", tmp_path / "again", quiet=True, device="cpu", link=True)
    finally:
        kept.write_bytes(before)
    assert "linked; not all of its results are there" in (tmp_path / "again" / "log.txt").read_text()
    for file in ("results.json", "cases.csv"):
        assert (tmp_path / "again" / file).read_bytes() == (cached / file).read_bytes()


@pytest.mark.nightly
def test_another_dose_is_measured_anew_with_the_same_weights(cached: Path) -> None:
    other = cached.parent / "doses"
    train(recipe("report.stress.noisy.dose=[1, 0.5]"), other, quiet=True, device="cpu", link=True)
    assert "linked; what is measured here differs" in (other / "log.txt").read_text()
    found = read_results(other)["detect"]
    assert "noisy@0.5" in found
    assert found["denoised@0.25"]["auc"] == read_results(cached)["detect"]["denoised@0.25"]["auc"]


@pytest.mark.nightly
def test_doses_compared_by_another_test_are_measured_anew_with_the_same_weights(cached: Path) -> None:
    other = cached.parent / "wilcoxon"
    train(recipe("report.compare={test: wilcoxon, metric: [dice]}"), other, quiet=True, device="cpu", link=True)
    assert "linked; what is measured here differs" in (other / "log.txt").read_text()
    before, now = (read_results(run)["detect"]["noisy@0.25"]["dice"] for run in (cached, other))
    assert now.value == before.value
    assert now.extras["p"] != before.extras["p"]


def test_a_run_interrupted_before_its_curves_ends_with_the_same_numbers(cached: Path) -> None:
    folder = RunFolder(cached)
    before = json.loads((cached / "results.json").read_text())
    state = folder.read_json("state.json")
    folder.write_json("state.json", {**state, "done": ["denoise"]})
    left = {**before, "detect": {"test": before["detect"]["test"]}}
    folder.write_json("results.json", left)
    go_on(cached, quiet=True, device="cpu")
    assert json.loads((cached / "results.json").read_text()) == before


@pytest.mark.nightly
def test_a_finished_run_denoises_as_a_stage_of_the_run_does(cached: Path) -> None:
    other = cached.parent / "by_run"
    only = recipe("report.stress=null").without(["detect"])
    train(only, cached.parent / "only", quiet=True, device="cpu", link=True)
    made = recipe(f"report.stress.denoised.denoise={cached.parent / 'only'}")
    train(made, other, quiet=True, device="cpu", link=True)
    found, wanted = (read_results(folder)["detect"]["denoised@0.25"]["auc"].value for folder in (other, cached))
    assert found == wanted


def test_a_denoiser_that_was_trained_on_the_patients_is_refused(tmp_path: Path, cached: Path) -> None:
    same = recipe("data.ldct.source.source.seed=0", "data.ldct.source.source.patients=24")
    with pytest.raises(InputError, match=r"report\.stress\.denoised\.denoise: of 'test', \d+ of \d+ patients"):
        medkit.run(same, tmp_path / "run", quiet=True, device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_denoiser_that_does_not_say_on_whom_it_was_trained_is_refused(tmp_path: Path, cached: Path) -> None:
    silent = tmp_path / "silent"
    train(recipe("report.stress=null").without(["detect"]), silent, quiet=True, device="cpu", link=True)
    shutil.rmtree(silent / "ledgers")
    without_keys(silent)
    for file in (silent / "weights").iterdir():
        weights = load_file(file)
        file.unlink()  # it is a link
        save_file(weights, file)
    made = recipe(f"report.stress.denoised.denoise={silent}")
    with pytest.raises(InputError, match=r"denoised\.denoise: nothing is known of the patients that '.*silent' was"):
        medkit.run(made, tmp_path / "run", quiet=True, device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_run_that_denoises_nothing_is_refused_before_any_data_are_read(
    tmp_path: Path, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(f"report.stress.denoised.denoise={cached}")

    def read(*_: Any, **__: Any) -> None:
        raise AssertionError("data were read")

    monkeypatch.setattr("medkit.runs.workbench.Workbench.dataset", read)
    with pytest.raises(InputError, match=r"report\.stress\.denoised\.denoise: stage 'detect' is not a denoiser"):
        medkit.run(made, tmp_path / "run", quiet=True, device="cpu")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("noisy.dose=[1, 1.5]", r"report\.stress\.noisy\.dose"),
        ("noisy.dose=[1, 0]", r"report\.stress\.noisy\.dose"),
        ("noisy.dose=[0.5, 0.25]", "the scans' own dose is missing, which the others are compared with"),
        ("noisy.dose=[1, 1]", "a dose is there twice"),
        ("noisy.dose=[1]", "one dose is not a curve"),
        ("noisy.split=tset", "stage 'detect' is not tested on 'tset'; did you mean 'test'"),
        ("noisy.split=train", "stage 'detect' is not tested on 'train'"),
        ("noisy.stages=[detct]", "no stage is named 'detct'; did you mean 'detect'"),
        ("noisy.stages=[]", "no stage is named"),
        ("noisy.photons=0", r"report\.stress\.noisy\.photons"),
        ("noisy.doses=[1]", "unknown key"),
        ("denoised.denoise=nowhere", "'nowhere' is neither a stage nor the folder of a run"),
        ("denoised.denoise=detect", "'detect' is trained after 'detect', which is to get what it denoises"),
    ],
)
def test_a_curve_that_cannot_be_measured_is_refused_with_its_place(change: str, told: str) -> None:
    with pytest.raises(Problems, match=told):
        recipe(f"report.stress.{change}")


def test_a_stage_that_is_left_out_takes_its_curves_along() -> None:
    assert recipe().without(["detect"]).report.stress == {}
    with pytest.raises(InputError, match="is denoised by 'denoise', which is left out"):
        recipe().without(["denoise"])


class Scans:
    """One case of a disc in air with a mask, and twice the same voxels for what is not denoised."""

    def __init__(self) -> None:
        y, x = np.mgrid[-32:32, -32:32]
        hu = np.where(np.hypot(x, y) < 24, 40.0, -1000.0)
        self.scan = Volume(np.stack([hu, hu]).astype(np.float32), np.diag([3.0, 1, 1, 1]), units="HU")

    def cases(self) -> list[medkit.api.Case]:
        return [medkit.api.Case("disc", "disc")]

    def load(self, case: medkit.api.Case) -> medkit.api.Record:
        return medkit.api.Record(self.scan, mask=self.scan.like((self.scan.voxels > 0).astype(np.uint8)))

    def identity(self, case: medkit.api.Case) -> str:
        return "disc"


def test_only_the_image_has_the_noise_and_it_is_that_of_simulated_doses() -> None:
    source = Scans()
    case = source.cases()[0]
    made = AtDose(source, 0.25, Scanner(photons=2e5)).load(case)
    again = AtDose(source, 0.25, Scanner(photons=2e5)).load(case)
    other = AtDose(source, 0.25, Scanner(photons=2e5), seed=1).load(case)
    inside = made.mask.voxels > 0
    spread = (made.image.voxels - source.scan.voxels)[inside].std()
    assert spread > 5
    assert np.array_equal(made.mask.voxels, (source.scan.voxels > 0))
    assert np.array_equal(made.image.voxels, again.image.voxels)
    assert not np.array_equal(made.image.voxels, other.image.voxels)
    assert AtDose(source, 1.0, Scanner()).load(case).image is source.scan


def test_scans_that_are_not_in_hu_have_no_dose() -> None:
    source = Scans()
    source.scan = source.scan.like(np.clip(source.scan.voxels, 0, 80) / 80)
    source.scan = Volume(source.scan.voxels, source.scan.affine)
    with pytest.raises((InputError, RunError), match="noise insertion needs CT in HU"):
        AtDose(source, 0.5, Scanner()).load(source.cases()[0])
