"""From radiographic views to bone age in one run, what it leaves, and where its networks look."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import without_keys

from medkit.engine.checkpoint import read_tensors, write_tensors
from medkit.errors import InputError, RunError
from medkit.evaluation.embeddings import read_embedding
from medkit.front import run
from medkit.recipe import load_recipe
from medkit.reporting.figures_embedding import embedding_map
from medkit.runs.explain import Question, explain
from medkit.runs.predict import predict
from medkit.runs.reading import Reading


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: None) -> Path:
    """The folder of a finished tiny run."""
    folder = tmp_path_factory.mktemp("run") / "tiny"
    run("tiny_pedxnet_boneage", folder, quiet=True, device="cpu")
    return folder


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hand") / "hand.png"
    image = np.zeros((60, 40), np.uint8)
    image[10:50, 15:25] = 200
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return path


def test_both_stages_have_their_metrics(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert set(results["views"]["internal"]) == {"top1", "macro_f1", "macro_precision", "macro_recall"}
    assert set(results["bone_age"]["internal"]) == {"mae", "mse", "r2"}


def test_the_map_of_features_says_of_how_many_images_and_patients_it_is(finished: Path) -> None:
    rows = [row for row in csv.DictReader((finished / "cases.csv").open()) if row["stage"] == "views"]
    patients = len({row["patient"] for row in rows})
    assert f"one dot an image ({len(rows)} images of {patients} patients)" in (finished / "report.html").read_text()


def test_each_case_has_the_class_that_was_said_and_its_probability(finished: Path) -> None:
    rows = [row for row in csv.DictReader((finished / "cases.csv").open()) if row["stage"] == "views"]
    assert all(0 <= int(row["class"]) < 7 for row in rows)
    assert all(1 / 7 <= float(row["class_probability"]) <= 1 for row in rows)
    assert all(float(row["top1"]) == (float(row["class"]) == float(row["label"])) for row in rows)


def test_features_are_kept_for_the_stage_that_classifies(finished: Path) -> None:
    names = [path.name for path in (finished / "embeddings").iterdir()]
    assert names == ["views.internal.npz"]
    kept = read_embedding(finished / "embeddings" / names[0])
    rows = [row for row in csv.DictReader((finished / "cases.csv").open()) if row["stage"] == "views"]
    assert kept.ids.tolist() == [row["case"] for row in rows]
    assert list(kept.groups) == ["anatomy", "sub_anatomy", "view"]


def test_kept_features_hold_nothing_about_patients(finished: Path) -> None:
    with np.load(finished / "embeddings" / "views.internal.npz") as file:
        assert set(file.files) == {"features", "label", "ids", "group.anatomy", "group.sub_anatomy", "group.view"}


def test_the_report_shows_the_map_of_views(finished: Path) -> None:
    assert "t-SNE map" in (finished / "report.html").read_text()


def test_the_same_features_give_the_same_map(finished: Path) -> None:
    kept = read_embedding(finished / "embeddings" / "views.internal.npz")
    assert embedding_map(kept) == embedding_map(kept)


def test_too_few_features_give_no_map(finished: Path) -> None:
    kept = read_embedding(finished / "embeddings" / "views.internal.npz")
    kept.features = kept.features[:5]
    assert embedding_map(kept) == ""


def test_explain_writes_maps_of_the_bone_age_and_its_value(finished: Path, hand: Path, tmp_path: Path) -> None:
    found = explain(finished, hand, tmp_path / "maps", reading=Reading({"sex": 1}), device="cpu")
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {
        "0000.activation.png",
        "0000.grad_cam.png",
        "explanation.json",
    }
    assert json.loads((tmp_path / "maps" / "explanation.json").read_text()) == found
    assert found["head"] == "age"
    assert found["seen_in_training"] == "unknown"  # a picture does not say whose it is
    assert 60 < found["slices"][0]["value"] < 200


def test_explained_maps_have_the_size_the_network_saw_and_colours(finished: Path, hand: Path, tmp_path: Path) -> None:
    explain(finished, hand, tmp_path / "maps", stage="views", device="cpu")
    for name in ("activation", "grad_cam"):
        picture = cv2.imread(str(tmp_path / "maps" / f"0000.{name}.png"))
        assert picture.shape == (48, 48, 3)
        assert (picture[..., 0] != picture[..., 2]).any()


def changed(finished: Path, folder: Path, part: str, **weights: float) -> Path:
    """A copy of a run in which weights of a part are their absolute values, times a number."""
    copy = Path(shutil.copytree(finished, folder / "run"))
    without_keys(copy)
    path = copy / "weights" / f"{part}.safetensors"
    tensors, _ = read_tensors(path)
    for name, factor in weights.items():
        tensors[f"{name}.weight"] = tensors[f"{name}.weight"].abs() * factor
    write_tensors(path, tensors, {})
    return copy


def test_an_empty_grad_cam_is_said_to_be_and_the_other_sign_is_offered(
    finished: Path, hand: Path, tmp_path: Path
) -> None:
    folder = changed(finished, tmp_path, "views.heads.view", fc=0)  # the same classes whatever the image
    found = explain(folder, hand, tmp_path / "maps", stage="views", device="cpu")
    assert found["empty_grad_cam"] == [0]
    assert "nothing there raises the score; look with --against" in found["note"]
    against = explain(folder, hand, tmp_path / "against", stage="views", question=Question(against=True), device="cpu")
    assert (against["grad_cam"], against["empty_grad_cam"]) == ("what lowers the score", [0])
    fine = explain(finished, hand, tmp_path / "fine", stage="views", device="cpu")
    assert (fine["empty_grad_cam"], "note" in fine) == ([], False)


def test_a_value_that_an_image_only_lowers_has_a_map_in_blue(finished: Path, hand: Path, tmp_path: Path) -> None:
    folder = changed(finished, tmp_path, "bone_age.heads.age", fc1=1, fc2=1, head=-1)
    found = explain(folder, hand, tmp_path / "maps", reading=Reading({"sex": 1}), device="cpu")
    assert (found["grad_cam"], found["empty_grad_cam"]) == ("red raises the value, blue lowers it", [])
    picture = cv2.imread(str(tmp_path / "maps" / "0000.grad_cam.png")).astype(int)
    assert (picture[..., 0] - picture[..., 2]).max() > 100
    assert (picture[..., 2] <= picture[..., 0]).all()


def test_a_value_has_no_map_of_what_speaks_against_it(finished: Path, hand: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shows what lowers it too, in blue; leave it out"):
        explain(
            finished,
            hand,
            tmp_path / "maps",
            reading=Reading({"sex": 1}),
            question=Question(against=True),
            device="cpu",
        )
    assert list(tmp_path.iterdir()) == []


def test_all_classes_are_explained_at_once(finished: Path, hand: Path, tmp_path: Path) -> None:
    found = explain(finished, hand, tmp_path / "maps", stage="views", question=Question(target="all"), device="cpu")
    assert found["slices"][0]["explained"] == list(range(7))
    assert set(found["empty_grad_cam"]) == {str(number) for number in range(7)}
    assert len(list((tmp_path / "maps").glob("0000.grad_cam.?.png"))) == 7


def test_a_predicted_value_has_its_unit_and_goes_into_the_file_that_is_named(
    finished: Path, hand: Path, tmp_path: Path
) -> None:
    found = predict(finished, hand, tmp_path / "age.json", reading=Reading({"sex": 1}), device="cpu")
    assert json.loads((tmp_path / "age.json").read_text()) == found
    assert found["unit"] == "months"
    assert "synthetic phantoms" in " ".join(found["notices"])
    assert found["input"] == {"file": "hand.png", "digest": f"sha256:{hashlib.sha256(hand.read_bytes()).hexdigest()}"}
    weights = (finished / "weights" / "bone_age.encoder.safetensors").read_bytes()
    assert found["weights"]["encoder"] == f"sha256:{hashlib.sha256(weights).hexdigest()}"
    with pytest.raises(InputError, match=r"ages\.nii\.gz: stage 'bone_age' gives value and no image; .*\.json"):
        predict(finished, hand, tmp_path / "ages.nii.gz", reading=Reading({"sex": 1}), device="cpu")


def test_explain_tells_all_class_probabilities(finished: Path, hand: Path, tmp_path: Path) -> None:
    found = explain(finished, hand, tmp_path / "maps", stage="views", question=Question(target=2), device="cpu")[
        "slices"
    ][0]
    assert sum(found["class_probability"]) == pytest.approx(1, abs=1e-4)
    assert found["class"] == int(np.argmax(found["class_probability"]))
    assert found["explained"] == 2


def test_explain_asks_for_what_the_head_needs_and_leaves_nothing(finished: Path, hand: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the head needs 'sex'; --field sex=VALUE"):
        explain(finished, hand, tmp_path / "maps", device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_explain_of_a_class_that_is_not_there_says_which_are(finished: Path, hand: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="classes: 0 to 6"):
        explain(finished, hand, tmp_path / "maps", stage="views", question=Question(target=7), device="cpu")


def test_explain_names_the_heads_there_are(finished: Path, hand: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no head 'ages'; did you mean 'age'"):
        explain(
            finished, hand, tmp_path / "maps", question=Question(head="ages"), reading=Reading({"sex": 1}), device="cpu"
        )


def test_explain_overwrites_nothing(finished: Path, hand: Path, tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    with pytest.raises(InputError, match="the output exists"):
        explain(finished, hand, tmp_path / "maps", reading=Reading({"sex": 1}), device="cpu")


def test_predict_tells_the_bone_age_of_a_boy(finished: Path, hand: Path, tmp_path: Path) -> None:
    found = predict(finished, hand, tmp_path / "age", reading=Reading({"sex": 1}), device="cpu")
    assert 60 < found["value"] < 200
    assert json.loads((tmp_path / "age" / "prediction.json").read_text()) == found


def test_predict_asks_for_what_the_head_needs(finished: Path, hand: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs the field 'sex'.*--field sex=VALUE"):
        predict(finished, hand, tmp_path / "age", device="cpu")


def test_predict_tells_all_class_probabilities(finished: Path, hand: Path, tmp_path: Path) -> None:
    found = predict(finished, hand, tmp_path / "view", stage="views", device="cpu")
    assert sum(found["class_probability"]) == pytest.approx(1, abs=1e-4)


def test_a_recipe_that_forgets_a_field_is_told_before_anything_is_written(tmp_path: Path) -> None:
    recipe = load_recipe("tiny_pedxnet_boneage", set=["data.hands.fields=[]"])
    with pytest.raises(InputError, match=r"data\.hands: stage 'bone_age' needs 'sex' of every case.*fields: \[sex\]"):
        run(recipe, tmp_path / "run", quiet=True, device="cpu")
    assert not (tmp_path / "run").exists()


def test_classes_that_do_not_fit_the_level_are_told(tmp_path: Path) -> None:
    recipe = load_recipe("tiny_pedxnet_boneage", set=["stages.views.objective.heads.view.classes=2"])
    with pytest.raises(RunError, match="not a class number from 0 to 1"):
        run(recipe, tmp_path / "run", quiet=True, device="cpu")


@pytest.mark.parametrize("name", ["pedxnet_views", "pedxnet_boneage", "pedxnet_fracture"])
def test_recipes_are_well_formed(name: str) -> None:
    load_recipe(name)


@pytest.mark.parametrize("name", ["pedxnet_views", "pedxnet_boneage", "pedxnet_fracture"])
def test_recipes_of_the_thesis_are_well_formed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (
        "PEDXNET_MANIFEST",
        "RSNA_BONE_AGE",
        "FRACTURE_MANIFEST",
        "PEDXNET_7C",
        "PEDXNET_30C",
        "PEDXNET_68C",
    ):
        monkeypatch.setenv(f"MEDKIT_{variable}", "somewhere.parquet")
    load_recipe(f"thesis/{name}")
