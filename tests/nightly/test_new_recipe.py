"""Every recipe that ``medkit new recipe`` writes is trained, measured and reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import write_hands, write_heads, write_pictures

import medkit
from medkit.cli.new_recipe import write_recipe


@pytest.mark.parametrize(
    ("task", "write", "label"),
    [
        ("segment", write_heads, "label"),
        ("classify", write_heads, "label"),
        ("denoise", write_heads, "label"),
        ("views", write_heads, "none"),
        ("classify", write_hands, "broken"),
        ("regress", write_hands, "months"),
        ("views", write_hands, "view"),
        ("classify", write_pictures, "kind"),
        ("classify", write_pictures, "has_bar,has_dot"),
        ("classify", write_pictures, "found"),
        ("regress", write_pictures, "age"),
    ],
)
def test_a_written_recipe_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, write: object, label: str
) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    recipe = write_recipe(task, write(tmp_path), tmp_path / f"{task}.yaml", label=label)  # type: ignore[operator]
    run = medkit.run(recipe, tmp_path / "run", set=[f"stages.{task}.epochs=1"], device="cpu")
    assert (run.folder / "report.html").is_file()
    assert bool(run.results[task]["test"]) == (label != "none")
