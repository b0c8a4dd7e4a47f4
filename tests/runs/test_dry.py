"""What only the first batch shows is told by a dry run, in words."""

from __future__ import annotations

import pytest

from medkit.errors import InputError, RunError
from medkit.runs.dry import dry_run


def test_a_batch_beyond_all_memory_is_told_with_what_helps() -> None:
    with pytest.raises(RunError, match=r"stage denoise: the machine's memory does not suffice .*batch=1"):
        dry_run("tiny_ldct", set=("stages.denoise.patch_size=100000000",), device="cpu")


def test_images_of_two_sizes_in_one_batch_are_told_with_what_brings_them_to_one() -> None:
    with pytest.raises(InputError, match=r"cases of different size cannot be one batch: .*resize"):
        dry_run("tiny_pedxnet_boneage", set=("data.views.prepare=[{use: clip_percentiles}]",), device="cpu")


def test_groups_of_weights_are_shown_with_their_decay_and_rate() -> None:
    keys = ("no_decay=true", "layer_decay=0.5")
    found = dry_run("tiny_ich_cls", set=[f"stages.pretext.optim.{key}" for key in keys], device="cpu")
    mine = [row for row in found.groups if row[0] == "pretext"]
    assert {row[4] for row in mine} == {"yes", "no"}
    assert {row[5] for row in mine if row[1].startswith("the rest")} == {"1"}
    assert min(float(row[5]) for row in mine) < 0.1
    assert {row[0] for row in found.groups} == {"pretext"}
