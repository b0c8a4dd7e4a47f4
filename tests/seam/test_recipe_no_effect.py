"""Keys that would do nothing where they are written, or something else than they say, are refused with their place."""

from __future__ import annotations

from pathlib import Path

import pytest
from seam.test_recipe_errors import problems


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("name: other", "stages.segment.repeat.scratch.name: a variant is called by its key"),
        ("repeat: {a: {batch: 2}}", "stages.segment.repeat.scratch.repeat: a variant has no variants of its own"),
        ("repeat.a.batch: 2", "stages.segment.repeat.scratch.repeat.a.batch: a variant has no variants of its own"),
    ],
)
def test_a_variant_has_neither_a_name_nor_variants_of_its_own(tmp_path: Path, change: str, said: str) -> None:
    (only,) = problems(tmp_path, "{objective.encoder: {use: timm, model: test_resnet}}", f"{{{change}}}")
    assert only.startswith(f"r.yaml:25:24: {said}")
