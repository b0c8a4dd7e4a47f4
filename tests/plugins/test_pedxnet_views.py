"""The hierarchy of views, and radiographs labelled and drawn by it."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from medkit_pedxnet.sources_views import ByView, ViewManifest
from medkit_pedxnet.views import LEVELS, UNCERTAIN, Views, published

from medkit.data.dataset import Dataset
from medkit.data.source import ManifestSource
from medkit.errors import InputError
from medkit.front import run
from medkit.testing import check_source


def test_names_their_order_and_their_parents_are_the_recovered_ones(shared: Path) -> None:
    wanted = json.loads((shared / "golden" / "pedxnet_labels.json").read_text())
    table = published()
    assert {level: table["levels"][level] for level in ("7", "30", "68")} == {
        "7": wanted["labels7"],
        "30": wanted["labels30"],
        "68": wanted["labels68"],
    }
    assert table["parents"]["68"] == wanted["inferred_68_to_30"]
    assert table["parents"]["30"] == wanted["inferred_30_to_7"]


def test_every_level_has_as_many_different_names_as_it_says() -> None:
    assert {level: len(set(names)) for level, names in Views().names.items()} == {7: 7, 30: 30, 68: 68}


@pytest.mark.parametrize("level", LEVELS)
def test_every_class_of_a_level_has_a_view(level: Any) -> None:
    views = Views()
    assert {views.at(view, level) for view in views.names[68]} == set(views.names[level])


def test_the_foot_has_the_five_views_of_the_thesis() -> None:
    """Part A, Fig. 2: foot AP, calcaneus, hindfoot, lateral, oblique."""
    views = Views()
    feet = {view for view in views.names[68] if views.at(view, 30) == "Foot"}
    assert feet == {"Foot_AP", "Foot_Calcaneus", "Foot_Hindfoot", "Foot_Lateral", "Foot_Oblique"}


def test_numbers_are_places_in_the_published_order() -> None:
    views = Views()
    assert views.number("Hand_PA", 68) == 42
    assert views.number("Hand_PA", 30) == 9
    assert views.number("Hand_PA", 7) == 4


def test_the_hip_can_be_counted_to_the_lower_extremity() -> None:
    assert Views().at("Pelvis_AP", 7) == "Pelvis"
    assert Views(hip_in="Lower_Extremity").at("Pelvis_AP", 7) == "Lower_Extremity"


def test_the_pelvis_without_views_is_no_class_to_draw_from() -> None:
    assert len(Views(hip_in="Lower_Extremity").hierarchy().classes("7")) == 6


def test_uncertain_classes_can_be_moved() -> None:
    views = Views(moved={"Chest_Clavicle": "Shoulder"})
    assert views.at("Chest_Clavicle", 30) == "Shoulder"
    assert views.at("Chest_Clavicle", 7) == "Upper_Extremity"


def test_uncertain_classes_are_classes() -> None:
    views = Views()
    assert set(UNCERTAIN) <= {*views.names[68], *views.names[30]}


def test_an_unknown_view_is_named_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match="'Hand_AP' is not a radiographic view; did you mean 'Hand_"):
        Views().at("Hand_AP", 7)


def test_a_view_cannot_be_moved_to_what_is_no_area() -> None:
    with pytest.raises(InputError, match="'Chest_Rib' cannot be moved to 'Sholder'"):
        Views(moved={"Chest_Rib": "Sholder"})


def radiographs(folder: Path, each: int = 2, later: int = 1) -> Path:
    """``each`` early images of all 68 views (twice as many chests) and ``later`` ones of some, with their files."""
    rows = []
    for i, view in enumerate(Views().names[68]):
        for k in range(each * (2 if view.startswith("Chest") else 1)):
            rows.append((f"{view}{k}.png", view, f"p{i}-{k}", "2018-06-01"))
        if i % 2:
            rows += [(f"{view}l{k}.png", view, f"q{i}-{k}", "2018-07-01") for k in range(later)]
    for number, (name, *_) in enumerate(rows):
        image = np.random.default_rng(number).integers(0, 255, (8, 8)).astype(np.uint8)  # no two alike
        (folder / name).write_bytes(cv2.imencode(".png", image)[1].tobytes())
        assert number < 1000
    columns = dict(zip(("image", "view", "patient", "taken"), map(list, zip(*rows, strict=True)), strict=True))
    parquet.write_table(pa.table(columns), folder / "list.parquet")
    return folder / "list.parquet"


def by_fold(source: ViewManifest, fold: str) -> Counter[float | None]:
    return Counter(case.label for case in source.cases() if case.fold == fold)


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_draws_the_same_number_evenly_over_its_classes(tmp_path: Path, level: Any) -> None:
    """The rarest of 7 parts has 8 images, of 30 areas 2, of 68 views 2: 7 x 8 = 56 is the least total."""
    source = ViewManifest(str(radiographs(tmp_path)), level, date="taken", split_date="2018-07-01")
    found = by_fold(source, "train")
    assert sum(found.values()) == 56
    assert max(found.values()) - min(found.values()) <= 1


def test_later_images_keep_their_natural_balance(tmp_path: Path) -> None:
    source = ViewManifest(str(radiographs(tmp_path)), 68, date="taken", split_date="2018-07-01")
    assert sum(by_fold(source, "val").values()) == 34


def test_a_view_manifest_keeps_every_promise_of_a_source(tmp_path: Path) -> None:
    check_source(ViewManifest(str(radiographs(tmp_path))))


def test_a_view_manifest_splits_as_a_data_set(tmp_path: Path) -> None:
    source = ViewManifest(str(radiographs(tmp_path)), 30, date="taken", split_date="2018-07-01")
    dataset = Dataset(source, {"train": {"fold": "train"}, "val": {"fold": "val"}})
    assert len(dataset.cases("train")) == 56
    assert dataset.sample(dataset.cases("val")[0]).image.shape == (1, 8, 8)


def test_a_patient_on_both_sides_of_the_date_is_named(tmp_path: Path) -> None:
    path = radiographs(tmp_path)
    table = parquet.read_table(path).to_pandas()
    table.loc[table["taken"] == "2018-07-01", "patient"] = "p0-0"
    table.to_parquet(path)
    with pytest.raises(InputError, match="1 patients are on both sides of the split date: p0-0"):
        ViewManifest(str(path), date="taken", split_date="2018-07-01").cases()


def test_images_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = radiographs(tmp_path)
    for file in tmp_path.glob("*.png"):
        file.unlink()
    with pytest.raises(InputError, match=r"60 of 60 images do not exist: .*\.png, \.\.\."):
        ViewManifest(str(path), 68).cases()


RECIPE = """
medkit: 1
name: sampled
data:
  upstream:
    source: {use: "pedxnet:views", path: PATH, level: 30, seed: 7, date: taken, split_date: "2018-07-01"}
    splits: {train: {fold: train}, val: {fold: val}}
    prepare: [{use: clip_percentiles}, {use: pad_resize, size: [32, 32]}]
    cache: false
stages:
  - name: views
    batch: 28
    objective:
      use: multitask
      encoder: {use: timm, model: test_resnet}
      heads: {view: {use: "pedxnet:view_class", classes: 30}}
    metrics: [top1]
    validate: null
    evaluate: [val]
"""


def test_a_run_keeps_its_sample_with_the_seed(tmp_path: Path) -> None:
    manifest = radiographs(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("PATH", str(manifest)))
    run(tmp_path / "recipe.yaml", tmp_path / "run", quiet=True, device="cpu")
    table = parquet.read_table(tmp_path / "run" / "sampled_upstream.parquet")
    assert table.schema.metadata[b"medkit.seed"] == b"7"
    source = ViewManifest(str(manifest), 30, seed=7, date="taken", split_date="2018-07-01")
    assert sorted(table["image"].to_pylist()) == sorted(case.id for case in source.cases())


def test_a_kept_sample_is_a_manifest_itself(tmp_path: Path) -> None:
    source = ViewManifest(str(radiographs(tmp_path)), 30)
    source.write_sample(tmp_path / "sample.parquet")
    again = ManifestSource(str(tmp_path / "sample.parquet"), label="label")
    assert {Path(c.id).name: c.label for c in again.cases()} == {c.id: c.label for c in source.cases()}


def plain(folder: Path, views: list[str]) -> ManifestSource:
    data = cv2.imencode(".png", np.arange(64, dtype=np.uint8).reshape(8, 8))[1].tobytes()
    lines = ["image,patient,view"]
    for i, view in enumerate(views):
        (folder / f"{i}.png").write_bytes(data)
        lines.append(f"{i}.png,p{i},{view}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return ManifestSource(str(folder / "list.csv"))


def test_another_source_can_be_labelled_by_view(tmp_path: Path) -> None:
    source = ByView(plain(tmp_path, ["Hand_PA", "Knee_AP", "", "Chest_frontal"]), level=7)
    check_source(source)
    assert [case.label for case in source.cases()] == [4.0, 3.0, 0.0]
    assert source.cases()[1].fields == {"view": "Knee_AP", "sub_anatomy": "Knee", "anatomy": "Lower_Extremity"}


def test_an_unknown_view_of_another_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'Knee_AP'"):
        ByView(plain(tmp_path, ["Kneee_AP"])).cases()


def test_a_source_without_views_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no case has a field 'protocol'"):
        ByView(plain(tmp_path, ["Knee_AP"]), field="protocol").cases()


def test_errors_of_a_manifest_name_the_file(tmp_path: Path) -> None:
    path = radiographs(tmp_path)
    with pytest.raises(InputError, match=re.escape(str(path))):
        ViewManifest(str(path), view="protocol").cases()
