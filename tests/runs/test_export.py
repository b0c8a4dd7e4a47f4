"""Networks as files for other programs: they give a run's own numbers, say how to be used, and tell of no patient."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from medkit_phantoms.source import HeadCT

import medkit
from medkit.data.nifti import write_nifti
from medkit.data.volume import Volume
from medkit.errors import InputError, RunError
from medkit.front import export
from medkit.recipe import recipe_from
from medkit.registry import plugins as plugin
from medkit.runs.export import ExportSettings
from medkit.runs.export_check import Agreement
from medkit.runs.run import RunSettings
from medkit.runs.run import run as train

SOURCE = {"use": "phantoms:head_ct", "patients": 6, "size": [40, 40], "slices": 4}

STOPPED = {
    "name": "stopped",
    "epochs": 30,
    "metrics": ["accuracy"],
    "early_stop": {"metric": "accuracy", "split": "val", "patience": 2, "min_delta": 1.0},
    "keep_best": {"metric": "accuracy", "split": "val"},
}
"""A stage that never improves by more than an accuracy of 1, so that it stops after its third epoch."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run with a network of slices, one of volumes, a denoiser with Fourier transforms, and one that is unfaithful."""
    folder = tmp_path_factory.mktemp("exported")
    common = {"splits": {name: {"fold": name} for name in ("train", "val", "test")}}
    window = {"use": "window", "low": 0, "high": 80}
    heads = {**common, "source": SOURCE, "prepare": [window, {"use": "resize", "size": [32, 32]}]}
    pairs = {**common, "source": {"use": "mtdgan:low_dose", "source": SOURCE}, "prepare": [window]}
    unlike = {**pairs, "prepare": [window, {"use": "unfaithful_plugin:halved"}]}
    slices: dict[str, Any] = {"use": "multitask", "encoder": {"use": "timm", "model": "test_resnet", "depth": 2}}
    seg = {"use": "smartnet:scse_unet", "widths": [8, 8], "attention": "none"}
    slices["heads"] = {"cls": {"use": "smartnet:slice_class"}, "seg": seg}
    volumes: dict[str, Any] = {
        "use": "volume",
        "encoder": {"from": "slices.encoder"},
        "losses": {"bce": {"use": "bce"}},
    }
    volumes["operator"] = {"use": "smartnet:lstm_classifier", "hidden": 8, "layers": 1}
    denoise: dict[str, Any] = {"use": "restoration", "losses": {"mse": {"use": "mse"}}}
    denoise["generator"] = {"use": "mtdgan:fft_generator", "width": 4, "layers": 1}
    patches = {"unit": "patch", "patches": 1, "patch_size": 32, "objective": denoise}
    stages = [
        {"name": "slices", "data": "heads", "batch": 4, "objective": slices, "metrics": ["auc", "dice"]},
        {"name": "volumes", "data": "heads", "unit": "volume", "objective": volumes},
        {**STOPPED, "data": "heads", "batch": 4, "objective": {**slices, "heads": {"cls": slices["heads"]["cls"]}}},
        {"name": "denoise", "data": "pairs", **patches},
        {"name": "unlike", "data": "unlike", **patches},
    ]
    data = {"heads": heads, "pairs": pairs, "unlike": unlike}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(folder / "cache"))
        plugin.load_file(Path(__file__).with_name("unfaithful_plugin.py"))
        recipe = recipe_from({"medkit": 1, "name": "exported", "data": data, "stages": stages})
        train(recipe, folder / "run", settings=RunSettings(device="cpu", quiet=True))  # no report
        yield folder / "run"
    plugin._loaded.cache_clear()
    del sys.modules["unfaithful_plugin"]


@pytest.fixture(scope="module")
def head() -> Volume:
    source = HeadCT(patients=6, size=(40, 40), slices=4)
    return source.load(source.cases()[0]).image


@pytest.fixture(scope="module")
def written(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The network of slices as ONNX, and what is said of it."""
    pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("model") / "slices.onnx"
    return path, export(run, path, stage="slices")


def session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])


def test_a_file_predicts_on_the_grid_of_an_image_in_hu_as_the_run_does(
    run: Path, written: tuple[Path, dict[str, Any]], head: Volume
) -> None:
    path, said = written
    assert said["preparation"]["before"] == []
    image = head.voxels.astype(np.float32)[:, None]
    found = dict(zip([one["name"] for one in said["outputs"]], session(path).run(None, {"image": image}), strict=True))
    wanted = medkit.open(run).predict(head, stage="slices")
    np.testing.assert_allclose(found["mask_probability"][:, 0], wanted.mask_probability, atol=1e-4)
    np.testing.assert_allclose(found["probability"], wanted.numbers["probability"], atol=1e-4)


def test_sizes_are_open_and_named(written: tuple[Path, dict[str, Any]]) -> None:
    path, said = written
    assert said["inputs"][0]["axes"] == ["slices", 1, "height", "width"]
    assert {one["name"]: one["axes"] for one in said["outputs"]} == {
        "probability": ["slices"],
        "mask_probability": ["slices", 1, "height", "width"],
    }
    found = session(path)
    assert found.get_inputs()[0].shape == ["slices", 1, "height", "width"]
    assert found.run(None, {"image": np.zeros((1, 1, 50, 44), np.float32)})[1].shape == (1, 1, 50, 44)


def test_the_check_is_told_with_what_it_was_made_on(written: tuple[Path, dict[str, Any]]) -> None:
    path, said = written
    assert json.loads(path.with_suffix(".json").read_text()) == said
    check = said["check"]
    assert (check["on"], check["tolerance"]) == ("split test", 1e-4)
    assert check["slices"] >= 4
    assert set(check["max_abs_difference"]) == {"probability", "mask_probability"}
    assert max(check["max_abs_difference"].values()) <= 1e-4


def test_the_card_has_results_with_intervals_ledger_and_limits(run: Path, written: tuple[Path, dict[str, Any]]) -> None:
    text = written[0].with_suffix(".md").read_text()
    auc = medkit.open(run).results["slices"]["test"]["auc"]
    assert "not for clinical use" in text.splitlines()[2].lower()
    assert f"| test | auc | {'–' if np.isnan(auc.value) else f'{auc.value:.3f}'} ↑ |" in text
    assert f"- trained on: {written[1]['ledger']['trained on']['patients']} patients" in text
    assert "synthetic phantoms" in text
    assert "## Intended use and limits" in text


def test_the_card_tells_the_epochs_that_were_trained_and_the_one_that_was_kept(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "stopped.pt2", stage="stopped")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    seen = [line["val/accuracy"] for line in lines if line["stage"] == "stopped"]
    kept = f"the weights are those of epoch {1 + int(np.argmax(seen))}, the best by val/accuracy"
    assert f"3 epochs of 30 planned ({kept})" in (tmp_path / "stopped.md").read_text()


def test_no_file_names_a_patient_a_case_or_a_folder_of_this_machine(
    run: Path, written: tuple[Path, dict[str, Any]]
) -> None:
    path, _ = written
    cases = medkit.open(run).cases
    names = {*cases["patient"], *(name.partition("#")[0] for name in cases["case"])}
    for file in (path, path.with_suffix(".json"), path.with_suffix(".md")):
        content = file.read_bytes()
        assert [name for name in names if len(name) > 2 and name.encode() in content] == []
        assert [
            str(folder) for folder in (run.parent, Path(medkit.__file__).parent) if str(folder).encode() in content
        ] == []


def test_a_network_of_volumes_takes_one_of_any_depth(run: Path, head: Volume, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    said = export(run, tmp_path / "volumes.onnx", stage="volumes")
    assert said["outputs"] == [
        {"name": "probability", "type": "float32", "axes": [1], "holds": "probability of the volume"}
    ]
    found, opened = session(tmp_path / "volumes.onnx"), medkit.open(run)
    for depth in (1, 4, 7):
        volume = Volume(np.resize(head.voxels, (depth, *head.voxels.shape[1:])), units="HU")
        wanted = opened.predict(volume, stage="volumes").numbers["probability"]
        given = found.run(None, {"image": volume.voxels.astype(np.float32)[:, None]})[0]
        np.testing.assert_allclose(given, wanted, atol=1e-4)


def test_torchs_own_form_predicts_the_same_and_is_checked_on_an_image(run: Path, head: Volume, tmp_path: Path) -> None:
    write_nifti(head, tmp_path / "head.nii.gz", kind="image")
    path = tmp_path / "out" / "denoise.pt2"
    said = export(run, path, stage="denoise", images=[str(tmp_path / "head.nii.gz")])
    assert (said["check"]["on"], said["check"]["slices"]) == ("given images", 4)
    image = torch.from_numpy(head.voxels.astype(np.float32))[:, None]
    wanted = medkit.open(run).model("denoise").predict({"image": (image / 80).clamp(0, 1)})["output"]
    torch.testing.assert_close(torch.export.load(path).module()(image)[0], wanted, atol=1e-4, rtol=0)


def test_an_lstm_is_refused_in_torchs_own_form(run: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"cannot hold an LSTM over any number of slices; name a file that ends in \.onnx"
    ):
        export(run, tmp_path / "volumes.pt2", stage="volumes")
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_other_numbers_than_the_run_is_not_written(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"differs from the run's by up to .*nothing was written"):
        export(run, tmp_path / "model.pt2", stage="unlike")
    assert list(tmp_path.iterdir()) == []


def test_differences_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(RunError, match="'value' of the exported network differs"):
        Agreement(1, 1, {"value": float("nan")}, {"value": 1.0}).check(1e-4)
    Agreement(1, 1, {"value": 5e-3}, {"value": 100.0}).check(1e-4)  # of values above 1, a share


def test_nothing_is_overwritten(run: Path, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("mine")
    with pytest.raises(InputError, match=r"model\.json: the output exists"):
        export(run, tmp_path / "model.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]


def test_without_its_libraries_onnx_is_refused_with_what_to_install(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"onnx\w* is not installed; pip install 'medkit-imaging\[export\]'"):
        export(run, tmp_path / "model.onnx")


def test_a_name_that_says_no_format_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"name a file that ends in \.onnx or \.pt2"):
        export(run, tmp_path / "model.bin", settings=ExportSettings())
