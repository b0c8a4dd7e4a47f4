"""A run that goes on with other files, code or weights than it was started with says so, or is refused."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import go_on, stopped_after, train

from medkit.data.nifti import write_nifti
from medkit.data.volume import Volume
from medkit.errors import InputError, MedkitError
from medkit.recipe import recipe_from
from medkit.registry.plugins import forget, load_file
from medkit.runs import file_digest
from medkit.runs.measure import evaluate_again

OPTIONS: dict[str, Any] = {"device": "cpu", "quiet": True}
FOLDS = ("train", "train", "train", "val", "test", "test")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))


def scan(path: Path, seed: int) -> None:
    """A scan of noise, with a bright block in every second one."""
    voxels = np.random.default_rng(seed).normal(30, 5, (3, 32, 32)).astype(np.float32)
    path.unlink(missing_ok=True)
    voxels[1:, 8:14, 8:14] += 40 * (seed % 2)
    write_nifti(Volume(voxels, affine=np.diag([5.0, 1.0, 1.0, 1.0])), path)


def made(folder: Path, seed: int = 1, stages: int = 1) -> dict[str, Any]:
    """A recipe of small stages, each of which goes on with the encoder of the one before, on a manifest of scans."""
    lines = ["image,label,patient,fold"]
    folder.mkdir(exist_ok=True)
    for i, fold in enumerate(FOLDS):
        if not (folder / f"{i}.nii.gz").exists():
            scan(folder / f"{i}.nii.gz", i)
        lines.append(f"{i}.nii.gz,{i % 2},p{i},{fold}")
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    source = {"use": "manifest", "path": str(folder / "m.csv"), "label": "label", "units": "HU"}
    splits = {"train": {"fold": "train"}, "val": {"fold": "val"}, "test": {"fold": "test"}}
    fresh: dict[str, Any] = {"use": "timm", "model": "test_resnet"}
    chain = []
    for number in range(stages):
        encoder = {"from": f"s{number - 1}.encoder"} if number else fresh
        heads = {"cls": {"use": "smartnet:slice_class"}}
        objective = {"use": "multitask", "encoder": encoder, "heads": heads}
        chain.append({"name": f"s{number}", "batch": 2, "epochs": 3, "objective": objective, "metrics": ["auc"]})
        chain[-1]["optim"] = {"use": "adam", "lr": 0.001}
    data = {"source": source, "splits": splits, "prepare": [{"use": "window", "low": 0, "high": 80}]}
    return {"medkit": 1, "name": "begun", "seed": seed, "data": {"d": data}, "stages": chain}


def begun(tmp_path: Path, name: str = "run", steps: int = 2, **changes: Any) -> Path:
    """A run that was stopped after some steps."""
    out = tmp_path / name
    with stopped_after(steps):
        train(recipe_from(made(tmp_path / "data", **changes)), out, **OPTIONS)
    return out


def told(out: Path) -> list[str]:
    """What stands above the results about changes."""
    notices = json.loads((out / "environment.json").read_text())["notices"]
    return [text for text in notices if "before these changed" in text]


def test_scans_replaced_in_between_are_told_above_the_results(tmp_path: Path) -> None:
    out = begun(tmp_path)
    scan(tmp_path / "data" / "0.nii.gz", 77)
    go_on(out, **OPTIONS)
    (text,) = told(out)
    assert "the cases of 'train' or their files; its weights come from both" in text
    assert text in (out / "log.txt").read_text()


def test_another_number_of_threads_is_told(tmp_path: Path) -> None:
    out, before = begun(tmp_path), torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        go_on(out, **OPTIONS)
    finally:
        torch.set_num_threads(before)
    (text,) = told(out)
    assert f"threads ({before}, now {before + 1}); its weights come from both" in text


def test_a_recipe_edited_in_the_run_folder_is_told(tmp_path: Path) -> None:
    out = begun(tmp_path)
    recipe = (out / "recipe.yaml").read_text()
    (out / "recipe.yaml").write_text(recipe.replace("lr: 0.001", "lr: 0.01"))
    assert (out / "recipe.yaml").read_text() != recipe
    go_on(out, **OPTIONS)
    assert "the stage in recipe.yaml or a file that it names" in told(out)[0]


def test_a_stage_trained_before_the_change_is_told_apart(tmp_path: Path) -> None:
    out = begun(tmp_path, steps=5, stages=2)
    scan(tmp_path / "data" / "0.nii.gz", 77)
    go_on(out, **OPTIONS)
    first, second = told(out)
    assert first.startswith("s0 was trained before")
    assert second.startswith("s1 was started before")


PLUGIN = """
from dataclasses import dataclass
from pathlib import Path
from medkit.api import hookimpl

@dataclass(frozen=True)
class Limited:
    \"\"\"Gradients times a number that a file of a folder has.

    Parameters
    ----------
    folder:
        Has the number.
    \"\"\"

    folder: Path

    def clip(self, parameters):
        for parameter in parameters:
            parameter.grad.mul_(float((self.folder / "inner" / "limit.txt").read_text()))

@hookimpl
def medkit_register(registry):
    registry.clip("limited", "begun_plugin:Limited", "a bound of a user's")
"""


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Callable[[float], dict[str, Any]]]:
    """A recipe whose clip reads a folder, once its file has been written with a number."""
    (tmp_path / "begun_plugin.py").write_text(PLUGIN)
    (tmp_path / "limits" / "inner").mkdir(parents=True)
    name = load_file(tmp_path / "begun_plugin.py")

    def written(limit: float) -> dict[str, Any]:
        (tmp_path / "limits" / "inner" / "limit.txt").write_text(str(limit))
        plain = made(tmp_path / "data")
        plain["stages"][0]["clip"] = {"use": "begun_plugin:limited", "folder": str(tmp_path / "limits")}
        return plain

    yield written
    forget(name)


def test_a_file_edited_in_a_folder_that_the_recipe_names_is_told(
    tmp_path: Path, limited: Callable[[float], dict[str, Any]]
) -> None:
    with stopped_after(2):
        train(recipe_from(limited(1.0)), tmp_path / "run", **OPTIONS)
    limited(0.0)
    go_on(tmp_path / "run", **OPTIONS)
    assert "the stage in recipe.yaml or a file that it names" in told(tmp_path / "run")[0]


def test_a_stage_is_not_linked_once_a_file_in_a_folder_that_it_names_was_edited(
    tmp_path: Path, limited: Callable[[float], dict[str, Any]]
) -> None:
    train(recipe_from(limited(1.0)), tmp_path / "first", **OPTIONS)
    train(recipe_from(limited(0.0)), tmp_path / "edited", link=True, **OPTIONS)
    train(recipe_from(limited(0.0)), tmp_path / "again", link=True, **OPTIONS)
    assert (tmp_path / "edited" / "checkpoints" / "s0").is_dir()
    assert not (tmp_path / "again" / "checkpoints" / "s0").is_dir()


def test_nothing_is_told_where_nothing_changed(tmp_path: Path) -> None:
    out = begun(tmp_path, stages=2)
    go_on(out, **OPTIONS)
    assert told(out) == []


def test_a_checkpoint_of_another_run_is_not_continued_from(tmp_path: Path) -> None:
    out, other = begun(tmp_path), begun(tmp_path, "other", seed=2)
    for file in (other / "checkpoints" / "s0").iterdir():
        shutil.copy(file, out / "checkpoints" / "s0")
    with pytest.raises(MedkitError, match="written by another training of stage 's0'"):
        go_on(out, **OPTIONS)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    out = tmp_path / "run"
    train(recipe_from(made(tmp_path / "data")), out, **OPTIONS)
    return out


def test_weights_of_another_run_are_not_measured_as_its_own(finished: Path, tmp_path: Path) -> None:
    train(recipe_from(made(tmp_path / "data", seed=2)), tmp_path / "other", **OPTIONS)
    shutil.copy(tmp_path / "other" / "weights" / "s0.encoder.safetensors", finished / "weights")
    with pytest.raises(InputError, match="not the weights that stage 's0' wrote"):
        evaluate_again(finished, "test", device="cpu")


def test_what_is_measured_later_with_other_versions_is_told(finished: Path) -> None:
    kept = json.loads((finished / "state.json").read_text())
    kept["begun"]["s0"]["torch"] = "1.0"
    (finished / "state.json").write_text(json.dumps(kept))
    evaluate_again(finished, "test", device="cpu")
    notices = json.loads((finished / "environment.json").read_text())["notices"]
    assert any(
        "measured on 'test', but these have changed since it was trained: torch (1.0, now" in one for one in notices
    )


def test_what_is_measured_later_with_the_same_is_no_news(finished: Path) -> None:
    evaluate_again(finished, "test", device="cpu")
    assert "was measured on" not in (finished / "environment.json").read_text()


def test_a_file_of_weights_is_read_once_for_its_digest_and_again_when_it_has_changed(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    whole = file_digest._read
    monkeypatch.setattr(file_digest, "_read", lambda path: read.append(path) or whole(path))
    monkeypatch.setattr(file_digest, "RECENT", 0)
    weights = shutil.copy(finished / "weights" / "s0.encoder.safetensors", tmp_path / "w.safetensors")
    recipe = made(tmp_path / "data")
    recipe["stages"][0]["objective"]["encoder"]["weights"] = str(weights)
    recipe["report"] = {"allow_seen": "only the file matters here"}
    train(recipe_from(recipe), tmp_path / "again", **OPTIONS)
    assert read.count(Path(weights)) == 1
    before = file_digest.digest(Path(weights))
    content = bytearray(Path(weights).read_bytes())
    content[-1] ^= 1
    time.sleep(0.05)  # longer than a tick of the file system's clock
    Path(weights).write_bytes(content)
    assert file_digest.digest(Path(weights)) != before
