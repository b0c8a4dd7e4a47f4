"""``medkit prepare``: fills the cache, goes on where it stopped, and names what fails."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

RECIPE = """
medkit: 1
name: small
data:
  d:
    source: {use: manifest, path: cases.csv, label: positive}
    splits: {train: {fold: train}, val: {fold: val}, test: {fold: test}}
    prepare: [{use: min_max}, {use: resize, size: [32, 32]}]
stages:
  - name: s
    batch: 2
    objective:
      use: multitask
      encoder: {use: timm, model: test_resnet}
      heads: {cls: {use: "smartnet:slice_class"}}
    metrics: [auc]
"""
FOLDS = ["train", "train", "train", "val", "test"]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [f"{i}.png,p{i},{fold},{i % 2}" for i, fold in enumerate(FOLDS)]
    (tmp_path / "cases.csv").write_text("\n".join(["image,patient,fold,positive", *rows]))
    for i in range(len(FOLDS)):
        image = np.random.default_rng(i).integers(0, 255, (40, 40), np.uint8)
        (tmp_path / f"{i}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    (tmp_path / "small.yaml").write_text(RECIPE)
    return tmp_path


def test_cases_that_fail_are_named_and_mended_ones_alone_are_prepared_next(medkit: Command, folder: Path) -> None:
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[:60])
    first = medkit("prepare", "small.yaml", "--jobs", 2)
    assert first.returncode == 1
    assert "1 case is not prepared:" in first.stderr
    assert "case '1.png': " in first.stderr
    assert "case '0.png'" not in first.stderr
    (folder / "1.png").write_bytes(whole)
    second = medkit("prepare", "small.yaml", "--jobs", 2)
    assert (second.returncode, second.stdout) == (0, "1 case prepared\n"), second.stderr
    assert "4 of 5 cases are prepared" in second.stderr
    assert medkit("prepare", "small.yaml").stdout == "0 cases prepared\n"


def test_a_part_prepares_its_own_cases_only(medkit: Command, folder: Path) -> None:
    assert medkit("prepare", "small.yaml", "--part", "1/2").returncode == 0
    rest = medkit("prepare", "small.yaml", "--jobs", 1)
    assert rest.stdout == "3 cases prepared\n", rest.stderr


def test_parts_share_the_cases_that_are_missing(medkit: Command, folder: Path) -> None:
    assert medkit("prepare", "small.yaml", "--part", "0/2").returncode == 0  # every second one
    assert medkit("prepare", "small.yaml", "--jobs", 2).stdout == "2 cases prepared\n"
    assert len(list((folder / "cache" / "shards").glob("*.shard"))) == 3, "each of the two parts has found a case"


def test_a_block_that_keeps_nothing_is_told(medkit: Command, folder: Path) -> None:
    done = medkit("prepare", "small.yaml", "--set", "data.d.cache=false")
    assert done.returncode == 2
    assert "nothing that is prepared is kept" in done.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--on", "moon", "--jobs", 2], "local, slurm, ray"),
        (["--on", "slurm"], "--jobs"),
        (["--no-wait"], "--on slurm"),
        (["--part", "2/2"], "the third of eight is 2/8"),
    ],
)
def test_options_that_do_not_fit_are_refused(medkit: Command, folder: Path, options: list, told: str) -> None:
    done = medkit("prepare", "small.yaml", *options)
    assert done.returncode == 2
    assert told in done.stderr
