"""``medkit check RECIPE --data``: every image is read once, broken ones are named and can be left out."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import write_hands, write_heads

from medkit.cli.new_recipe import write_recipe
from medkit.data.source import read_table
from medkit.engine.progress import Progress
from medkit.errors import InputError
from medkit.recipe import load_recipe
from medkit.runs.data_check import check_data, write_sound


def test_broken_images_are_named_and_left_out(medkit: Callable[..., Any], tmp_path: Path) -> None:
    write_recipe("segment", write_heads(tmp_path), tmp_path / "segment.yaml")
    cut = tmp_path / "images" / "p03.nii.gz"
    cut.write_bytes(cut.read_bytes()[:300])
    mask = tmp_path / "masks" / "p05.nii.gz"
    content = bytearray(gzip.decompress(mask.read_bytes()))
    content[-1] = 7
    mask.write_bytes(gzip.compress(bytes(content)))
    (tmp_path / "images" / "p07.nii.gz").unlink()
    (tmp_path / "masks" / "p09.nii.gz").unlink()
    told = medkit("check", "segment.yaml", "--data", "--leave-out", "sound.csv", "--jobs", "2")
    broken = ["p03", "p05", "p07", "p09"]
    assert told.returncode == 1
    assert "8 of 12 cases can be read and prepared" in told.stdout
    assert "next:" not in told.stdout
    assert sorted(read_table(tmp_path / "sound.left_out.csv")["case"]) == broken
    assert "mask: there is no" in (tmp_path / "sound.left_out.csv").read_text()
    assert "a mask holds 0 and 1" in (tmp_path / "sound.left_out.csv").read_text()
    assert sorted({f"p{i:02d}" for i in range(12)} - {*read_table(tmp_path / "sound.csv")["case"]}) == broken


def test_what_to_do_about_broken_images_is_said(medkit: Callable[..., Any], tmp_path: Path) -> None:
    write_recipe("classify", write_hands(tmp_path), tmp_path / "made.yaml", label="broken")
    next(tmp_path.rglob("*.png")).unlink()
    told = medkit("check", "made.yaml", "--data", "--jobs", "1")
    assert told.returncode == 1
    assert told.stdout.rstrip().endswith("add '--leave-out sound.csv' for a manifest without them")


def test_a_manifest_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    cases = write_hands(tmp_path)
    recipe = load_recipe(write_recipe("classify", cases, tmp_path / "made.yaml", label="broken"))
    checked = check_data(recipe, 1, Progress(quiet=True))
    before = cases.read_bytes()
    with pytest.raises(InputError, match="the output exists"):
        write_sound(checked, cases)
    assert cases.read_bytes() == before
