"""The thesis's tables as recipes: every row printed, the small ones as the thesis's, the tiny ones trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import medkit
from medkit.recipe import Recipe, WantedTable, bundled, load_recipe
from medkit.recipe.yaml import ENV

FILES = dict(bundled())
TABLES = [name for name in FILES if "tables/" in name or name.startswith("tiny_table")]
PAIRS = [name for name in FILES if name.startswith("tables/")]


def loaded(name: str, patch: pytest.MonkeyPatch) -> Recipe:
    for variable in ENV.findall(FILES[name].read_text()):
        patch.setenv(variable, "somewhere")
    return load_recipe(name)


def labels(recipe: Recipe, layout: WantedTable) -> list[str]:
    """The stage's own name and the labels of its variants."""
    group = [stage.name for stage in recipe.stages if stage.name.split("@")[0] == layout.stage]
    return [name.partition("@")[2] or name for name in group]


@pytest.mark.parametrize("name", TABLES)
def test_no_row_that_is_trained_is_missing_in_the_table(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = loaded(name, monkeypatch)
    assert recipe.report.tables
    for layout in recipe.report.tables:
        assert set(labels(recipe, layout)) <= set(layout.rows)


@pytest.mark.parametrize("name", PAIRS)
def test_the_small_table_has_the_rows_of_the_thesis_s_in_its_order(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet's needs weights that medkit does not come with."""
    small, full = loaded(name, monkeypatch).report.tables, loaded(f"thesis/{name}", monkeypatch).report.tables
    assert [layout.title for layout in small] == [layout.title for layout in full]
    for mine, theirs in zip(small, full, strict=True):
        assert list(mine.rows.items()) == [item for item in theirs.rows.items() if item[0] != "imagenet"]


@pytest.mark.parametrize("name", PAIRS)
def test_the_thesis_s_table_has_the_variants_of_the_small_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small, full = loaded(name, monkeypatch), loaded(f"thesis/{name}", monkeypatch)
    missing = {stage.name for stage in small.stages} - {stage.name for stage in full.stages}
    assert missing == set()


def test_downstream_rows_differ_from_the_baseline_in_the_encoder_only(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = loaded("tables/table1_3", monkeypatch)
    for base in ("fracture", "bone_age"):
        own = recipe.stage(base)
        for level in ("c7", "c30", "c68"):
            other = recipe.stage(f"{base}@{level}")
            heads = [stage.objective.arguments["heads"] for stage in (own, other)]
            assert [h.plain() for h in heads[0].values()] == [h.plain() for h in heads[1].values()]
            assert (other.data, other.epochs, other.batch) == (own.data, own.epochs, own.batch)


@pytest.mark.parametrize("name", ["tiny_table5", "tables/table5", "thesis/tables/table5"])
def test_table_5_shows_concurrence_on_slices_of_either_class_with_and_without_the_loss(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = loaded(name, monkeypatch)
    upstream = recipe.report.tables[0]
    assert list(upstream.metrics)[:2] == ["concurrence_positives", "concurrence_negatives"]
    shown = {}
    for label in upstream.rows:
        stage = recipe.stage("pretext" if label == "pretext" else f"pretext@{label}")
        own = stage.objective.arguments
        assert [metric.arguments["on"] for metric in stage.metrics[:2]] == ["positives", "negatives"]
        shown[label] = set(own["heads"]), [tie.name for tie in own["ties"]]
    tie = ["smartnet:consistency"]
    two, three = {"cls", "seg"}, {"cls", "seg", "rec"}
    assert shown == {
        "cls_seg": (two, []),
        "cls_seg_consist": (two, tie),
        "cls_seg_rec": (three, []),
        "pretext": (three, tie),
    }


@pytest.mark.parametrize("name", ["tiny_table5", "tables/table5", "thesis/tables/table5"])
def test_each_row_of_table_5_goes_on_with_the_encoder_of_its_own_pretext(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = loaded(name, monkeypatch)
    later = [stage for stage in recipe.stages if not stage.name.startswith("pretext")]
    assert later
    for stage in later:
        _, at, label = stage.name.partition("@")
        assert list(stage.takes_from()) == [f"pretext{at}{label}"]


def test_table_5_has_rows_of_table_7_at_the_thesis_s_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    five, seven = (loaded(f"thesis/tables/table{number}", monkeypatch) for number in (5, 7))
    for stage in five.stages:
        own, same = stage, seven.stage(stage.name)
        assert own.objective.plain() == same.objective.plain()
        assert (own.epochs, own.batch, own.draw, own.balance) == (same.epochs, same.batch, same.draw, same.balance)
        assert own.optim.plain() == same.optim.plain()


def parts(recipe: Recipe) -> dict[str, Any]:
    """What the rows of the ablation differ in: network, tasks, losses with their suppression, how they are combined."""
    found = {}
    for stage in recipe.stages:
        own = stage.objective.arguments
        losses = {**own["generator_losses"], **own["discriminator_losses"]}
        found[stage.name] = (
            own["generator"].name,
            own["discriminator"].arguments.get("tasks"),
            {key: block.arguments.get("suppress") for key, block in losses.items()},
            own["combine"],
        )
    return found


@pytest.mark.parametrize("name", ["tiny_table10", "thesis/tables/table10"])
def test_the_ablation_adds_the_same_parts_at_every_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parts(loaded(name, monkeypatch)) == parts(load_recipe("tables/table10"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("tiny_table1_3", marks=pytest.mark.nightly),
        pytest.param("tiny_table5", marks=pytest.mark.nightly),
        "tiny_table10",
    ],
)
def test_every_row_trains_and_is_written_as_markdown(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    done = medkit.run(name, tmp_path / "run", device="cpu", quiet=True)
    for layout in done.recipe.report.tables:
        text = (tmp_path / "run" / "tables" / f"{layout.slug}.md").read_text()
        for row in layout.rows.values():
            (line,) = (line for line in text.splitlines() if line.startswith(f"| {row} |"))
            assert any(character.isdigit() for character in line.split("|")[2])
