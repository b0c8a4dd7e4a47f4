"""Probes as stages of a run: trained on nothing but features, chosen by validation, resumed, linked and told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from helpers import go_on, train

import medkit
from medkit.data.collate import whole
from medkit.data.ledger import read_ledger
from medkit.engine.checkpoint import read_tensors
from medkit.engine.runtime import Runtime
from medkit.errors import InputError, MedkitError
from medkit.evaluation.case_table import read_cases
from medkit.recipe import Recipe, recipe_from
from medkit.runs.embed import EmbedRequest, embed
from medkit.runs.folder import RunFolder
from medkit.runs.predict import predict
from medkit.runs.workbench import Workbench

OPTIONS: dict[str, Any] = {"device": "cpu", "quiet": True}


def plain(**changes: Any) -> dict[str, Any]:
    """A pretext and probes of its encoder, of seconds; ``slices`` takes keys from ``changes``."""
    source = {"use": "phantoms:head_ct", "patients": 10, "size": [32, 32], "slices": 4, "folds": [0.5, 0.2, 0.3]}
    source |= {"external": 0.0}
    splits = {"train": {"fold": "train"}, "val": {"fold": "val"}, "test": {"fold": "test"}}
    encoder = {"use": "timm", "model": "test_resnet"}
    pretext = {"use": "multitask", "encoder": encoder, "heads": {"cls": {"use": "smartnet:slice_class"}}}
    probe = {"use": "probe", "encoder": {"from": "pretext.encoder"}}
    masks = probe | {"encoder": {"from": "slices.encoder"}, "classifier": "linear", "target": "mask", "stride": 4}
    grid = {"grid": {"lr": [0.1, 1.0], "weight_decay": [0.0]}, "steps": 30}
    stages = [
        {"name": "pretext", "batch": 4, "objective": pretext, "optim": {"use": "adam", "lr": 0.001}},
        {"name": "slices", "objective": probe, "metrics": ["auc"], **changes},
        {"name": "volumes", "unit": "volume", "objective": probe | {"classifier": "knn"}, "metrics": ["auc"]},
        {"name": "masks", "unit": "volume", "objective": masks | grid, "metrics": ["dice"]},
    ]
    data = {"source": source, "splits": splits, "prepare": [{"use": "window", "low": 0, "high": 80}]}
    report = {"splits": ["test"], "maps": {"cases": 1}}
    return {"medkit": 1, "name": "probed", "seed": 3, "data": {"d": data}, "stages": stages, "report": report}


def recipe(**changes: Any) -> Recipe:
    return recipe_from(plain(**changes))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a cache of its own, in which ``first`` is a finished run."""
    folder = tmp_path_factory.mktemp("probes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(folder / "cache"))
        medkit.run(recipe(), folder / "first", **OPTIONS)
        yield folder


def numbers(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def log(folder: Path) -> str:
    return (folder / "log.txt").read_text()


def test_the_encoder_stays_as_it_is_with_its_norm_statistics(home):
    pretext, _ = read_tensors(home / "first/weights/pretext.encoder.safetensors")
    for stage in ("slices", "volumes", "masks"):
        probed, _ = read_tensors(home / f"first/weights/{stage}.encoder.safetensors")
        assert all(torch.equal(probed[name], tensor) for name, tensor in pretext.items())
    assert any("running_mean" in name for name in pretext)


def test_every_slice_or_volume_is_measured_with_its_counts(home):
    found = numbers(home / "first")
    patients = found["volumes"]["test"]["auc"]["n_patients"]
    assert found["volumes"]["test"]["auc"]["n"] == patients
    assert found["slices"]["test"]["auc"]["n"] == 4 * patients
    assert found["masks"]["test"]["dice"]["n"] >= 1


def test_features_are_encoded_once_for_all_probes_of_an_encoder(home):
    text = log(home / "first")
    assert "slices: features of 5 cases of 'train': 5 encoded, 0 there already" in text
    assert "volumes: features of 5 cases of 'train': 0 encoded, 5 there already" in text


def test_what_was_chosen_and_from_what_is_written_and_reported(home):
    choices = json.loads((home / "first/choices.json").read_text())
    kept = choices["slices"]
    assert kept["split"] == "val"
    assert [one["C"] for one in kept["tried"]] == [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0]
    least = min(kept["tried"], key=lambda one: one["error"])
    assert (kept["settings"], kept["error"]) == ({"C": least["C"]}, least["error"])
    told = f"C = {least['C']:g} was chosen on &#39;val&#39;"
    assert told in (home / "first/report.html").read_text()
    assert f"slices: C = {least['C']:g} of 7 settings, by 'val'" in log(home / "first")


def test_a_volume_is_judged_by_the_mean_of_the_features_of_its_slices(home):
    bench = Workbench(recipe(), Runtime(torch.device("cpu")), RunFolder(home / "first"))
    stage = bench.recipe.stage("volumes")
    objective, dataset = bench.trained(stage).eval(), bench.dataset(stage)
    rows = {row["case"]: row for row in read_cases(home / "first") if row["stage"] == "volumes"}
    for case in dataset.cases("test"):
        batch = whole(dataset.sample(case))
        with torch.inference_mode():
            mean = objective.encode(batch["image"]).mean(0, keepdim=True)
            expected = float(objective.head(mean)[0, 0])
            assert float(objective.predict(batch)["probability"][0]) == expected
        assert float(rows[case.id]["probability"]) == pytest.approx(expected, abs=1e-6)


def test_patients_that_settings_were_chosen_by_count_as_seen(home):
    ledger = read_ledger(home / "first/weights/slices.head.safetensors")
    roles = {(entry.stage, entry.split): entry.role for entry in ledger.entries}
    assert roles["slices", "val"] == "select"
    assert roles["pretext", "val"] == "validate"


def test_a_probe_comes_out_the_same_again(home):
    train(recipe().without(["masks", "volumes"]), home / "again", **OPTIONS)
    assert numbers(home / "again")["slices"] == numbers(home / "first")["slices"]
    head = "weights/slices.head.safetensors"
    assert (home / "again" / head).read_bytes() == (home / "first" / head).read_bytes()
    # What was computed for the first run serves the second.
    assert "slices: features of 5 cases of 'train': 0 encoded, 5 there already" in log(home / "again")


def test_a_resumed_run_fits_again_what_was_not_done(home):
    shutil.copytree(home / "first", home / "resumed")
    state = home / "resumed/state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"done": ["pretext", "slices", "volumes"]}))
    head = home / "resumed/weights/masks.head.safetensors"
    head.unlink()
    go_on(home / "resumed", **OPTIONS)
    assert head.read_bytes() == (home / "first/weights/masks.head.safetensors").read_bytes()
    assert numbers(home / "resumed") == numbers(home / "first")
    assert (home / "resumed/choices.json").read_bytes() == (home / "first/choices.json").read_bytes()


def test_a_linked_probe_brings_its_choice(home):
    train(recipe(), home / "linked", link=True, **OPTIONS)
    assert log(home / "linked").count("linked with its results") == 4
    assert numbers(home / "linked") == numbers(home / "first")
    choices = [json.loads((home / run / "choices.json").read_text()) for run in ("linked", "first")]
    assert choices[0] == choices[1]


def test_a_probe_predicts_a_new_image(home, write_ct, tmp_path):
    hu = np.random.default_rng(0).integers(-1000, 80, (3, 32, 32))
    write_ct(tmp_path / "scan", hu)
    found = predict(home / "first", tmp_path / "scan", tmp_path / "out", stage="volumes")
    assert 0 <= found["probability"] <= 1
    masked = predict(home / "first", tmp_path / "scan", tmp_path / "mask", stage="masks")
    assert masked["volume_ml"] >= 0


@pytest.mark.parametrize("key", [{"batch": 4}, {"epochs": 2}, {"optim": {"use": "sgd"}}, {"clip": 1.0}, {"slices": 2}])
def test_keys_that_speak_of_steps_are_refused_by_check(key):
    with pytest.raises(MedkitError, match=rf"fitted to features at once, and '{next(iter(key))}' would do nothing"):
        recipe(**key)


def test_a_resolved_recipe_with_its_defaults_is_none_that_speaks_of_steps():
    assert recipe_from(recipe().resolved()).resolved() == recipe().resolved()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"validate": None}, "no split for it"),
        ({"objective": {"classifier": "knn", "target": "mask"}}, "segmented by a linear layer"),
        ({"objective": {"grid": {"k": [1.0]}}}, "the grid has 'k'"),
        ({"objective": {"classifier": "linear", "target": "mask", "stride": 512}}, "no map of stride 512"),
        ({"objective": {"classifier": "ridge", "classes": 3}}, "has no classes"),
    ],
)
def test_what_a_probe_cannot_do_is_refused_before_anything_is_written(change, told, tmp_path):
    objective = {"use": "probe", "encoder": {"use": "timm", "model": "test_resnet"}} | change.pop("objective", {})
    made = plain(objective=objective, **change)
    made["stages"] = made["stages"][1:2]
    with pytest.raises(InputError, match=told):
        medkit.run(recipe_from(made), tmp_path / "run", **OPTIONS)
    assert not (tmp_path / "run").exists()


def test_an_encoder_of_a_run_is_embedded_by_the_run_or_by_its_weights(home, tmp_path):
    weights = home / "first/weights/pretext.encoder.safetensors"
    told = embed(str(home / "first"), tmp_path / "a.parquet", EmbedRequest(split="test"), device="cpu")
    embed(str(weights), tmp_path / "b.parquet", EmbedRequest(split="test"), device="cpu")
    a, b = (pyarrow.parquet.read_table(tmp_path / f"{name}.parquet").column("features") for name in "ab")
    assert a.equals(b)
    assert told["patients_seen_in_training"] == 0
    trained = embed(str(weights), tmp_path / "c.parquet", EmbedRequest(split="train"), device="cpu")
    assert trained["patients_seen_in_training"] == trained["patients"] == 5
