"""Equal names of cases are not enough: what is set side by side or tested shows the same images and truths, or says so."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import run_command
from helpers import train, write_noise

from medkit.evaluation.comparisons import Comparison
from medkit.recipe import Recipe, recipe_from
from medkit.reporting.report import write_report
from medkit.reporting.run_results import RunResults

SPLITS = {split: {"fold": split} for split in ("train", "val", "test")}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def phantoms(seed: int = 0, high: int = 80, **keys: Any) -> dict[str, Any]:
    source = {"use": "phantoms:head_ct", "patients": 20, "size": [32, 32], "slices": 4, "seed": seed}
    return {"source": source, "splits": SPLITS, "prepare": [{"use": "window", "low": 0, "high": high}], **keys}


def recipe(metrics: Any = ("auc",), **data: Any) -> Recipe:
    """A stage on the first data block, and a variant of it for each of the others."""
    heads = {"cls": {"use": "smartnet:slice_class"}}
    objective = {"use": "multitask", "encoder": {"use": "timm", "model": "test_resnet"}, "heads": heads}
    first, *others = data
    stage = {"name": "s", "data": first, "batch": 4, "unit": "slice", "objective": objective, "metrics": list(metrics)}
    stage["repeat"] = {name: {"data": name} for name in others}
    report = {"splits": ["test"], "compare": {"test": "paired_t", "metric": ["auc"]}, "maps": {"cases": 0}}
    return recipe_from({"medkit": 1, "name": "t", "data": data, "stages": [stage], "report": report})


def compared(run: Path) -> Comparison:
    (only,) = RunResults.read(run).comparisons("s")
    return only


@pytest.fixture(scope="module")
def other_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage and a variant whose data block has phantoms of another seed, so other people of the same names."""
    folder = tmp_path_factory.mktemp("other") / "run"
    train(recipe(a=phantoms(), b=phantoms(seed=7)), folder)
    return folder


def test_a_variant_on_other_images_of_the_same_names_is_not_tested_and_the_report_says_why(other_people: Path) -> None:
    found = compared(other_people)
    assert math.isnan(found.p_holm)
    assert math.isnan(found.test.difference)
    assert f"of {found.test.n} cases of the same names {found.test.n} show other images" in found.says
    page = write_report(other_people).read_text()
    assert found.says in page
    assert "after Holm" not in page
    (row, *_) = RunResults.read(other_people).cases.of("s", "test")
    assert row["image"]
    assert row["image"] not in page


@pytest.fixture(scope="module")
def other_window(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage and a variant whose data block has the same phantoms in another window."""
    folder = tmp_path_factory.mktemp("window") / "run"
    train(recipe(a=phantoms(), b=phantoms(high=400)), folder)
    return folder


def test_a_variant_on_the_same_images_in_another_window_is_tested(other_window: Path) -> None:
    assert math.isfinite(compared(other_window).p_holm)


def test_where_it_is_not_known_whether_images_are_the_same_nothing_is_tested(
    other_window: Path, tmp_path: Path
) -> None:
    """As in runs of earlier versions, whose rows have no digests."""
    run = shutil.copytree(other_window, tmp_path / "run")
    with (run / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (run / "cases.csv").open("w", newline="") as file:
        kept = [name for name in rows[0] if name not in ("image", "truth")]
        writer = csv.DictWriter(file, kept, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    assert "images of data blocks 'a' and 'b' are the same is not known" in compared(run).says


def test_a_variant_with_another_column_of_labels_is_not_tested(tmp_path: Path) -> None:
    folds = ["train"] * 4 + ["val"] * 2 + ["test"] * 8
    source = write_noise(tmp_path / "noise", [f"p{i}" for i in range(14)], folds)
    manifest = Path(source["path"])
    column = ["oedema", *(str(i // 2 % 2) for i in range(14))]
    lines = zip(manifest.read_text().splitlines(), column, strict=True)
    manifest.write_text("\n".join(",".join(cells) for cells in lines) + "\n")
    blocks = {
        name: {"source": {**source, "label": name}, "splits": SPLITS, "prepare": [{"use": "window", "units": "stored"}]}
        for name in ("bleed", "oedema")
    }
    train(recipe(**blocks), tmp_path / "run")
    assert "cases of the same names 16 have another label" in compared(tmp_path / "run").says


def compare(folder: Path, *runs: Path, json_: bool = False) -> tuple[str, str]:
    done = run_command(("compare", *runs, *(["--json"] if json_ else [])), folder, {"COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_compare_says_that_runs_were_tested_on_other_images_of_the_same_names(tmp_path: Path) -> None:
    for name, seed in (("w1", 1), ("w2", 2)):
        train(recipe(a=phantoms(seed)), tmp_path / name)
    out, _ = compare(tmp_path, tmp_path / "w1", tmp_path / "w2")
    assert "note: 'test' of stage 's' has different cases in w1 and w2: of " in out
    assert " show other images, " in out
    out, said = compare(tmp_path, tmp_path / "w1", tmp_path / "w2", json_=True)
    assert "show other images" in said
    assert set(json.loads(out)) == {str(tmp_path / "w1"), str(tmp_path / "w2")}
