"""What another run has trained under the same key is linked, if that is wanted; what it is worth nothing for is not."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import run_command, run_script
from helpers import go_on, train

from medkit.engine.runtime import Runtime
from medkit.recipe import Recipe, recipe_from
from medkit.runs import links
from medkit.runs.folder import RunFolder
from medkit.runs.measure import evaluate_again
from medkit.runs.stage_key import StageKey
from medkit.runs.workbench import Workbench

OPTIONS: dict[str, Any] = {"device": "cpu", "quiet": True}


def plain(seed: int = 1) -> dict[str, Any]:
    """A pretext and a stage that takes its encoder, of seconds."""
    source = {"use": "phantoms:head_ct", "patients": 7, "size": [32, 32], "slices": 4}
    splits = {"train": {"fold": "train"}, "val": {"fold": "val"}, "test": {"fold": "test"}}
    encoder = {"use": "timm", "model": "test_resnet"}
    heads = {"cls": {"use": "smartnet:slice_class"}}
    pretext = {
        "name": "pretext",
        "batch": 2,
        "epochs": 2,
        "objective": {"use": "multitask", "encoder": encoder, "heads": heads},
        "optim": {"use": "adam", "lr": 0.001},
        "metrics": ["auc"],
    }
    taken = {"use": "multitask", "encoder": {"from": "pretext.encoder"}, "heads": heads}
    finer = pretext | {"name": "finer", "objective": taken, "epochs": 1}
    data = {"source": source, "splits": splits, "prepare": [{"use": "window", "low": 0, "high": 80}]}
    return {
        "medkit": 1,
        "name": "linked",
        "seed": seed,
        "data": {"d": data},
        "stages": [pretext, finer],
        "report": {"splits": ["test"]},
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a cache of its own, in which ``first`` is a finished run."""
    folder = tmp_path_factory.mktemp("links")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(folder / "cache"))
        patch.delenv("MEDKIT_LINK", raising=False)
        train(recipe_from(plain()), folder / "first", **OPTIONS)
        yield folder


def run(home: Path, out: Path, made: dict[str, Any] | None = None, **options: Any) -> str:
    """A run of the recipe; what its log says."""
    train(recipe_from(made or plain()), out, **OPTIONS, **options)
    return (out / "log.txt").read_text()


def trained_here(out: Path, stage: str) -> bool:
    return (out / "checkpoints" / stage).is_dir()


FILES = ("results.json", "cases.csv", "metrics.jsonl", "resources.json", "ledgers/pretext.json", "ledgers/finer.json")


def test_a_run_links_what_another_has_finished_under_the_same_key(home: Path, tmp_path: Path) -> None:
    said = run(home, tmp_path / "second", link=True)
    assert f"pretext: trained already in {home / 'first'} under the same key; linked with its results" in said
    assert not trained_here(tmp_path / "second", "pretext")
    assert not trained_here(tmp_path / "second", "finer")
    for name in FILES:
        assert (tmp_path / "second" / name).read_bytes() == (home / "first" / name).read_bytes(), name
    for file in (home / "first" / "weights").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / "weights" / file.name).read_bytes()
    assert {f.name for f in (tmp_path / "second" / "examples").iterdir()} == {
        f.name for f in (home / "first" / "examples").iterdir()
    }


def test_nothing_is_linked_unasked_so_that_whoever_repeats_a_run_sees_it_repeated(home: Path, tmp_path: Path) -> None:
    said = run(home, tmp_path / "again")
    assert trained_here(tmp_path / "again", "pretext")
    assert "under the same key; --link takes it from there" in said
    assert (tmp_path / "again" / "results.json").read_bytes() == (home / "first" / "results.json").read_bytes()


def test_fresh_trains_whatever_the_environment_says(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDKIT_LINK", "1")
    said = run(home, tmp_path / "fresh", link=False)
    assert trained_here(tmp_path / "fresh", "pretext")
    assert "trained already" not in said


@pytest.mark.parametrize(("said", "variable", "wanted"), [(None, "", None), (None, "1", True), (None, "0", False), (True, "0", True), (False, "1", False)])  # fmt: skip
def test_the_environment_speaks_where_nothing_is_said(
    said: bool | None, variable: str, wanted: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDKIT_LINK", variable)
    assert links.wanted(said) is wanted


def test_another_evaluation_of_linked_weights_is_measured_here(home: Path, tmp_path: Path) -> None:
    made = plain()
    made["data"]["d"]["splits"]["second"] = {"fold": "test"}
    made["report"] = {"splits": ["test", "second"]}
    out = tmp_path / "other"
    said = run(home, out, made, link=True)
    assert "linked; what is measured here differs" in said
    assert not trained_here(out, "pretext")
    found, first = (json.loads((folder / "results.json").read_text()) for folder in (out, home / "first"))
    assert found["pretext"]["test"] == first["pretext"]["test"]
    assert set(found["pretext"]) == set(found["finer"]) == {"test", "second"}


def test_what_the_other_run_was_measured_on_later_is_not_taken(copied: Path, home: Path, tmp_path: Path) -> None:
    evaluate_again(copied, "val", allow_seen="a look", device="cpu")
    out = tmp_path / "other"
    run(home, out, link=True)
    found = json.loads((out / "results.json").read_text())
    assert set(found["pretext"]) == set(found["finer"]) == {"test"}
    assert not any(row.split(",")[1] == "val" for row in (out / "cases.csv").read_text().splitlines())


def test_a_linked_stage_gives_its_parts_to_a_stage_that_is_trained(home: Path, tmp_path: Path) -> None:
    made = plain()
    made["stages"][1]["epochs"] = 2
    out = tmp_path / "further"
    said = run(home, out, made, link=True)
    assert "pretext: trained already" in said
    assert trained_here(out, "finer")
    plainly = tmp_path / "plainly"
    run(home, plainly, made, link=False)
    for name in ("results.json", "cases.csv"):
        assert (out / name).read_bytes() == (plainly / name).read_bytes()


@pytest.fixture
def copied(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first run in a folder of its own with an index of its own, to be damaged."""
    shutil.copytree(home / "first", tmp_path / "first")
    shutil.copytree(home / "cache", tmp_path / "cache")
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    for entry in (tmp_path / "cache" / links.INDEX).iterdir():
        entry.write_text(json.dumps({"runs": [str(tmp_path / "first")]}))
    return tmp_path / "first"


def test_damaged_weights_are_not_linked(copied: Path, tmp_path: Path, home: Path) -> None:
    file = copied / "weights" / "pretext.encoder.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    said = run(home, tmp_path / "out", link=True)
    assert "pretext: trained already" in said
    assert "but it is trained again" in said
    assert trained_here(tmp_path / "out", "pretext")
    assert (tmp_path / "out" / "results.json").read_bytes() == (home / "first" / "results.json").read_bytes()


def test_weights_of_another_training_are_not_linked(copied: Path, tmp_path: Path, home: Path) -> None:
    shutil.copy(copied / "weights" / "finer.encoder.safetensors", copied / "weights" / "pretext.encoder.safetensors")
    assert "not the weights that its run wrote" in run(home, tmp_path / "out", link=True)
    assert trained_here(tmp_path / "out", "pretext")


def spoilt(folder: Path, how: str) -> None:
    """A run folder that no longer has what the index says of it."""
    if how == "gone":
        shutil.rmtree(folder)
    elif how == "no weights":
        (folder / "weights" / "pretext.encoder.safetensors").unlink()
    elif how == "a part that is not named":
        state = json.loads((folder / "state.json").read_text())
        del state["keys"]["pretext"]["weights"]["encoder"]
        (folder / "state.json").write_text(json.dumps(state))
    elif how == "another key":
        state = json.loads((folder / "state.json").read_text())
        state["keys"]["pretext"]["training"] = "0" * 32
        (folder / "state.json").write_text(json.dumps(state))
    elif how == "not done":
        state = json.loads((folder / "state.json").read_text())
        (folder / "state.json").write_text(json.dumps({**state, "done": []}))
    else:
        (folder / "state.json").write_text("{")


def bench_of(made: dict[str, Any] | Recipe, folder: Path) -> Workbench:
    read = made if isinstance(made, Recipe) else recipe_from(made)
    folder.mkdir(parents=True, exist_ok=True)
    return Workbench(read, Runtime.start("cpu"), RunFolder(folder))


def settled(made: dict[str, Any]) -> Recipe:
    """As a run has it that was begun: which slices are drawn is decided."""
    read = recipe_from(made)
    for stage in read.stages:
        stage.draw = stage.draw or "positive"
    return read


def key_of(made: dict[str, Any], folder: Path, name: str = "pretext") -> StageKey:
    bench = bench_of(settled(made), folder)
    found = bench.keys.of(bench.recipe.stage(name))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "how", ["gone", "no weights", "a part that is not named", "another key", "not done", "damaged"]
)
def test_a_stale_entry_of_the_index_is_passed_over(copied: Path, tmp_path: Path, how: str) -> None:
    bench = bench_of(settled(plain()), tmp_path / "out")
    stage = bench.recipe.stage("pretext")
    key = bench.keys.of(stage)
    assert key is not None
    assert links.find(bench, stage, key) is not None
    spoilt(copied, how)
    assert links.find(bench, stage, key) is None


def changed(key: str, value: Any) -> dict[str, Any]:
    """The recipe with one value changed; ``stage.`` is the first stage, ``data.`` its data block."""
    made = copy.deepcopy(plain())
    first, _, rest = key.partition(".")
    node: Any = {"stage": made["stages"][0], "data": made["data"]["d"]}.get(first, made)
    *way, last = rest.split(".") if first in ("stage", "data") else key.split(".")
    for word in way:
        node = node[word]
    node[last] = value
    return made


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 2),
        ("stage.epochs", 3),
        ("stage.batch", 1),
        ("stage.optim.lr", 0.002),
        ("stage.clip", 1.0),
        ("stage.draw", "uniform"),
        ("stage.metrics", []),
        ("stage.objective.encoder.depth", 3),
        ("stage.workers", 2),
        ("data.source.seed", 5),
        ("data.prepare", [{"use": "window", "low": 0, "high": 90}]),
        ("data.augment", [{"use": "horizontal_flip"}]),
        ("data.splits.train", {"fold": ["train", "test"]}),
        ("data.splits.val", {"fold": "test"}),
    ],
)
def test_the_key_changes_with_all_that_the_weights_depend_on(home: Path, tmp_path: Path, key: str, value: Any) -> None:
    assert key_of(changed(key, value), tmp_path / "b").training != key_of(plain(), tmp_path / "a").training


@pytest.mark.parametrize(
    ("key", "value"),
    [("report", {"splits": ["test"], "maps": {"cases": 1}}), ("stage.evaluate", ["val"]), ("data.splits.more", {"fold": "val"})],
)  # fmt: skip
def test_what_is_measured_is_no_matter_of_the_weights(home: Path, tmp_path: Path, key: str, value: Any) -> None:
    one, other = key_of(plain(), tmp_path / "a"), key_of(changed(key, value), tmp_path / "b")
    assert one.training == other.training
    if key != "data.splits.more":
        assert one.results != other.results


def test_the_test_that_compares_doses_is_part_of_what_is_measured(home: Path, tmp_path: Path) -> None:
    curve = {"stages": ["pretext"], "split": "test", "dose": [1, 0.25]}
    made = [
        changed(
            "report", {"splits": ["test"], "stress": {"noisy": curve}, "compare": {"test": test, "metric": ["auc"]}}
        )
        for test in ("paired_t", "wilcoxon")
    ]
    one, other = (key_of(plain, tmp_path / name) for plain, name in zip(made, "ab", strict=True))
    assert one.training == other.training
    assert one.results != other.results


def test_a_key_is_the_one_of_the_finished_run(home: Path, tmp_path: Path) -> None:
    record = RunFolder(home / "first").key("pretext")
    assert key_of(plain(), tmp_path / "a") == StageKey(record["training"], record["results"])


def test_other_weights_of_a_parent_are_another_key(copied: Path, tmp_path: Path) -> None:
    def key() -> StageKey:
        bench = bench_of(settled(plain()), copied)
        found = bench.keys.of(bench.recipe.stage("finer"))
        assert found is not None
        return found

    before = key()
    folder = RunFolder(copied)
    record = folder.key("pretext")
    folder.keep_key("pretext", {**record, "weights": {**record["weights"], "encoder": "0" * 32}})
    assert key().training != before.training


def test_a_file_of_weights_counts_by_its_content(home: Path, tmp_path: Path) -> None:
    def key(folder: str, source: str) -> str:
        path = tmp_path / folder / "w.safetensors"
        path.parent.mkdir()
        shutil.copy(home / "first" / "weights" / source, path)
        made = changed("stage.objective.encoder.weights", str(path))
        return key_of(made, tmp_path / f"run_{folder}").training

    same = [key(folder, "pretext.encoder.safetensors") for folder in ("one", "two")]
    assert same[0] == same[1] != key("three", "finer.encoder.safetensors")


def test_a_stage_begun_under_another_key_has_none_when_it_goes_on(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "resumed"
    made = settled(plain())
    bench = bench_of(made, out)
    folder, stage = RunFolder(out), made.stages[0]
    folder.write_json("state.json", {"done": []})
    key = links.begin(bench, stage)
    assert key is not None
    (folder.checkpoints("pretext")).mkdir(parents=True)
    (folder.checkpoints("pretext") / "last.safetensors").touch()
    assert links.begin(bench, stage) == key
    folder.keep_key("pretext", {"training": "0" * 32, "results": ""})
    assert links.begin(bench, stage) is None
    links.finish(bench, stage, ["encoder"])
    assert folder.key("pretext") == {}


PLUGIN = """
from medkit.api import hookimpl
from torch import nn

class Distance(nn.Module):
    def forward(self, output, target):
        return (output - target).square().mean() * {factor}

@hookimpl
def medkit_register(registry):
    registry.loss("distance", "linked_plugin:Distance", "a distance of a user's")
"""
PRINT = """
import json, sys
from pathlib import Path
from medkit.engine.runtime import Runtime
from medkit.recipe import load_recipe
from medkit.registry.plugins import load_file
from medkit.runs.folder import RunFolder
from medkit.runs.measure import evaluate_again
from medkit.runs.workbench import Workbench
load_file(sys.argv[1])
recipe = load_recipe(sys.argv[2])
print(Workbench(recipe, Runtime.start("cpu"), RunFolder(Path(sys.argv[3]))).keys.of(recipe.stages[0]).training)
"""


def test_a_plugin_file_counts_by_its_content(home: Path, tmp_path: Path) -> None:
    made = plain()
    volume = {
        "use": "volume",
        "encoder": {"use": "timm", "model": "test_resnet"},
        "operator": {"use": "conv3d_segmenter"},
        "losses": {"own": {"use": "distance"}},
    }
    made["stages"] = [{"name": "pretext", "unit": "volume", "objective": volume}]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(made))

    def key(folder: str, factor: int) -> str:
        path = tmp_path / folder / "linked_plugin.py"
        path.parent.mkdir()
        path.write_text(PLUGIN.replace("{factor}", str(factor)))
        (tmp_path / "print.py").write_text(PRINT)
        done = run_script(tmp_path / "print.py", [path, tmp_path / "r.yaml", tmp_path / "run"])
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    first, moved, edited = key("one", 1), key("two", 1), key("three", 2)
    assert first == moved != edited


@pytest.mark.slow
def test_a_linked_run_is_whole_without_the_other(copied: Path, tmp_path: Path, home: Path) -> None:
    out = tmp_path / "out"
    run(home, out, link=True)
    before = (out / "results.json").read_bytes()
    shutil.rmtree(copied)
    state = json.loads((out / "state.json").read_text())
    (out / "state.json").write_text(json.dumps({**state, "done": ["pretext"]}))  # as if killed before its second stage
    go_on(out, **OPTIONS, link=False)
    assert trained_here(out, "finer")
    assert not trained_here(out, "pretext")
    assert (out / "results.json").read_bytes() == before
    for words in (["report", str(out)], ["evaluate", str(out), "--split", "val", "--allow-seen", "a look"]):
        done = run_command(words, tmp_path)
        assert done.returncode == 0, done.stderr
    assert {"test", "val"} == set(json.loads((out / "results.json").read_text())["pretext"])


STEP = """
import os, sys
from dataclasses import dataclass
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from linked_constants import FACTOR
from medkit.api import hookimpl

@dataclass(frozen=True)
class Scale:
    def apply(self, arrays):
        return {**arrays, "image": arrays["image"] * FACTOR}
    def restore(self, array, shape):
        return array

@hookimpl
def medkit_register(registry):
    registry.transform("scale", "linked_step:Scale", "every voxel times a number")
"""


def test_a_number_that_a_plugin_file_imports_counts_for_prepared_samples_and_for_what_is_linked(tmp_path: Path) -> None:
    made = changed("data.prepare", [{"use": "window", "low": 0, "high": 80}, {"use": "linked_step:scale"}])
    made["stages"], made["report"] = made["stages"][:1], {"splits": ["test"]}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(made))
    (tmp_path / "linked_step.py").write_text(STEP)
    surroundings = {"MEDKIT_CACHE": str(tmp_path / "cache")}
    words = ["run", "r.yaml", "--device", "cpu", "--plugin", "linked_step.py", "--link", "--out"]
    found = []
    for name, factor in (("first", 1.0), ("black", 0.0)):
        (tmp_path / "linked_constants.py").write_text(f"FACTOR = {factor}\n")
        done = run_command([*words, name], tmp_path, surroundings)
        assert done.returncode == 0, done.stderr
        assert trained_here(tmp_path / name, "pretext")
        found.append(json.loads((tmp_path / name / "results.json").read_text())["pretext"]["test"]["auc"]["value"])
    assert found[0] != found[1] == 0.5  # nothing can be told of black images
