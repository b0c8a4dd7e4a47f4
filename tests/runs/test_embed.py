"""``medkit embed``: features of many images as one Parquet file, which says where they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import save_file

from medkit.data.collate import whole
from medkit.engine.runtime import Runtime
from medkit.errors import InputError
from medkit.parts.encoders import TimmEncoder
from medkit.recipe import load_recipe
from medkit.runs.embed import EmbedRequest, embed
from medkit.runs.encoders import named_encoder
from medkit.runs.workbench import Workbench

RUNTIME = Runtime(torch.device("cpu"))


@pytest.fixture
def recipe(tmp_path, monkeypatch) -> str:
    """A recipe whose data block says how images are prepared, in a folder with a cache of its own."""
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    source = "{use: 'phantoms:head_ct', patients: 4, size: [48, 48], slices: 5, external: 0.0}"
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"medkit: 1\nname: r\ndata:\n  d:\n    source: {source}\n"
        "    splits: {train: {fold: train}, some: {center: A}}\n"
        "    prepare: [{use: window, low: 0, high: 80}, {use: resize, size: [32, 32]}]\n"
        "stages:\n  - name: s\n    validate: null\n    objective: {use: multitask, encoder: {use: timm, model: test_resnet},"
        " heads: {cls: {use: 'smartnet:slice_class'}}}\n"
    )
    return str(path)


def rows(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    table = pyarrow.parquet.read_table(path)
    return table.to_pylist(), json.loads(table.schema.metadata[b"medkit"])


def test_every_slice_has_its_features_and_label(recipe, tmp_path):
    told = embed("timm:test_resnet", tmp_path / "f.parquet", EmbedRequest(split="some", recipe=recipe), device="cpu")
    found, _ = rows(tmp_path / "f.parquet")
    bench = Workbench(load_recipe(recipe), RUNTIME)
    dataset = bench.dataset(bench.recipe.stages[0])
    cases = dataset.cases("some")
    assert len(found) == 5 * len(cases) == told["slices"]
    encoder = named_encoder("timm:test_resnet", RUNTIME).encoder
    for i, case in enumerate(cases):
        mine, sample = found[5 * i : 5 * i + 5], dataset.sample(case)
        assert [row["case"] for row in mine] == [case.id] * 5
        assert [row["slice"] for row in mine] == list(range(5))
        assert [row["label"] for row in mine] == sample.native_mask.any((1, 2)).astype(float).tolist()
        with torch.inference_mode():
            expected = encoder(whole(sample)["image"])[-1].mean((2, 3)).numpy()
        assert np.allclose([row["features"] for row in mine], expected, atol=1e-5)


def test_the_file_says_where_its_features_come_from(recipe, tmp_path):
    torch.manual_seed(5)
    save_file(
        {name: t.contiguous() for name, t in TimmEncoder("test_resnet").net.state_dict().items()},
        tmp_path / "w.safetensors",
    )
    what = f"timm:test_resnet@{tmp_path / 'w.safetensors'}"
    embed(what, tmp_path / "f.parquet", EmbedRequest(split="some", recipe=recipe), device="cpu")
    _, told = rows(tmp_path / "f.parquet")
    assert told["encoder"] == what
    assert told["weights"].startswith("sha256:")
    assert [step["use"] for step in told["prepare"]] == ["medkit:window", "medkit:resize"]
    assert "phantoms" in told["notices"][0]
    assert told["patients_seen_in_training"] == "unknown"  # foreign weights


def test_a_folder_of_series_and_a_manifest_of_them_have_the_same_features(recipe, tmp_path, write_ct):
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        write_ct(tmp_path / "scans" / name, rng.integers(-1000, 80, (3, 40, 40)))
    (tmp_path / "m.csv").write_text("image,patient\nscans/one,p\nscans/two,p\n")
    for name, place in (("a", tmp_path / "scans"), ("b", tmp_path / "m.csv")):
        embed("timm:test_resnet", tmp_path / f"{name}.parquet", EmbedRequest(place, recipe=recipe), device="cpu")
    (a, told), (b, _) = rows(tmp_path / "a.parquet"), rows(tmp_path / "b.parquet")
    assert [row["case"] for row in a] == ["one"] * 3 + ["two"] * 3
    assert [row["features"] for row in a] == [row["features"] for row in b]
    assert {row["patient"] for row in b} == {"p"}
    assert all(row["label"] is None for row in a + b)
    assert told["cases"] == 2


@pytest.mark.parametrize(
    ("what", "changes", "told"),
    [
        ("timm:test_resnet", {"recipe": None}, "how images are prepared"),
        ("timm:test_resnet", {"split": "sme"}, "did you mean 'some'"),
        ("timm:test_resnet", {"split": None}, "an input or from a split"),
        ("timm:test_resnet", {"data": "x"}, "no data block 'x'"),
        ("timm:test_resnt", {}, "did you mean 'test_resnet"),
        ("nowhere", {}, "this names no encoder"),
    ],
)
def test_what_cannot_be_embedded_is_refused_and_nothing_is_left(recipe, tmp_path, what, changes, told):
    wanted = {"split": "some", "recipe": recipe, **changes}
    with pytest.raises(InputError, match=told):
        embed(what, tmp_path / "f.parquet", EmbedRequest(**wanted), device="cpu")
    assert not [path for path in tmp_path.iterdir() if "parquet" in path.name]


def test_nothing_is_overwritten(recipe, tmp_path):
    (tmp_path / "f.parquet").write_text("mine")
    with pytest.raises(InputError, match="the output exists"):
        embed("timm:test_resnet", tmp_path / "f.parquet", EmbedRequest(split="some", recipe=recipe), device="cpu")
    assert (tmp_path / "f.parquet").read_text() == "mine"
