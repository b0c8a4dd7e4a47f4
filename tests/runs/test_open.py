"""A run from Python: what it has found, its models, and what they say of a new image."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from helpers import small_recipe

import medkit
from medkit.data.volume import Volume
from medkit.errors import InputError, RunError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[medkit.run]:
    folder = tmp_path_factory.mktemp("opened")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(folder / "cache"))
        yield medkit.run(small_recipe("opened"), folder / "run", device="cpu", quiet=True)


@pytest.fixture
def image() -> Volume:
    rng = np.random.default_rng(0)
    return Volume(rng.integers(-1000, 100, (3, 32, 32)).astype(np.int16), units="HU")


def test_a_run_is_opened_as_it_ended(made) -> None:
    found = medkit.open(made.folder)
    assert (found.status, found.folder, found.recipe.name) == ("finished", made.folder, "opened")
    assert str(found.results) == str(made.results)  # nan is not equal to itself


def test_results_are_a_table_of_one_row_a_number(made) -> None:
    frame = medkit.open(made.folder).results.to_frame()
    value = made.results["s"]["test"]["auc"]
    row = frame[(frame.stage == "s") & (frame.split == "test") & (frame.metric == "auc")].iloc[0]
    assert (row["value"], row["n"], row["n_patients"]) == (value.value, value.n, value.n_patients)


def test_cases_are_a_table_with_numbers_as_numbers(made) -> None:
    frame = medkit.open(made.folder).cases
    assert isinstance(frame, pandas.DataFrame)
    assert {"stage", "split", "case", "patient"} <= set(frame.columns)
    assert len(frame)
    texts = ["stage", "split", "case", "patient", "center", "image", "truth"]
    assert all(isinstance(cell, str) for name in texts for cell in frame[name])
    others = frame.columns.difference(texts)
    assert all(pandas.api.types.is_numeric_dtype(frame[name]) for name in others)


def test_the_model_has_the_weights_of_the_run(made) -> None:
    model = medkit.open(made.folder).model("s")
    kept = (made.folder / "weights").glob("s.encoder.safetensors")
    from safetensors.torch import load_file

    weights = load_file(next(kept))
    own = model.parts()["encoder"].state_dict()
    assert not model.training
    assert all(torch.equal(own[name], value) for name, value in weights.items())


def test_a_volume_is_predicted_as_the_command_does(made, image: Volume) -> None:
    found = medkit.open(made.folder).predict(image)
    assert found.mask is None
    assert np.all((np.asarray(found.numbers["probability"]) >= 0) & (np.asarray(found.numbers["probability"]) <= 1))
    again = medkit.open(made.folder).predict(image, stage="s")
    assert again.numbers == found.numbers


def test_a_notebook_shows_a_run_by_its_results_and_what_its_data_are(made) -> None:
    shown = medkit.open(made.folder)._repr_html_()
    value = made.results["s"]["test"]["auc"]
    assert f"<td>s</td><td>test</td><td>auc</td><td>{value.value:.4g}</td>" in shown
    assert "synthetic phantoms" in shown
    assert str(made.report) in shown
    assert made.results._repr_html_() in shown


def test_text_of_a_run_is_no_html(made) -> None:
    run = medkit.open(made.folder)
    run.failed["s"] = "<script>"
    assert "<script>" not in run._repr_html_()


def test_dir_shows_what_can_be_used() -> None:
    shown = [name for name in dir(medkit) if not name.startswith("__")]
    assert shown == sorted(set(medkit.__all__) - {"__version__"})
    assert all(hasattr(medkit, name) for name in shown)


def test_what_is_no_run_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this is not a run folder"):
        medkit.open(tmp_path)
    with pytest.raises(InputError, match="frist: there is no such run folder; 'medkit runs' lists"):
        medkit.open(tmp_path / "frist")


@pytest.mark.parametrize(
    ("done", "message"),
    [
        ([], "stage 's' has not been trained to its end; medkit resume"),
        (["s"], "stage 's' has no weights for 'encoder'; its file is gone"),
    ],
)
def test_a_run_without_its_weights_predicts_nothing_and_says_why(
    made, image: Volume, tmp_path: Path, done: list[str], message: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made.folder, folder)
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"done": done}))
    (folder / "weights/s.encoder.safetensors").unlink()
    with pytest.raises(RunError, match=message):
        medkit.open(folder).predict(image)


def test_a_folder_of_runs_is_told_how_they_are_listed(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "recipe.yaml").write_text("medkit: 1\n")
    with pytest.raises(InputError, match=f"'medkit runs {tmp_path}' lists the runs in it"):
        medkit.open(tmp_path)
