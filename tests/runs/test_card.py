"""Cards: an encoder judged by a panel, beside random encoders, as a page and as numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from medkit.errors import InputError, MedkitError
from medkit.reporting.card import card_page, write_card
from medkit.runs.card import card
from medkit.runs.panel import read_panel


def panel() -> dict[str, Any]:
    """A panel of seconds."""
    heads = {"use": "phantoms:head_ct", "patients": 16, "size": [32, 32], "slices": 4, "folds": [0.4, 0.2, 0.4]}
    heads |= {"external": 0.3, "smallest": 20}
    splits = {name: {"fold": name} for name in ("train", "val", "test")}
    prepare = [{"use": "window", "low": 0, "high": 80}]
    ich = {"source": heads, "splits": {**splits, "others": {"center": ["B", "C"]}}, "prepare": prepare}
    half = {"source": {"use": "mtdgan:low_dose", "dose": 0.5, "source": heads}, "splits": splits, "prepare": prepare}
    mask = {"use": "probe", "classifier": "linear", "target": "mask", "stride": 4, "steps": 20}
    stages = [
        {"name": "bleeds", "data": "ich", "objective": {"use": "probe"}, "metrics": ["auc"]},
        {"name": "masks", "data": "ich", "unit": "volume", "objective": mask, "metrics": ["dice"]},
    ]
    looked = {"test": "test", "seeds": [1, 2], "fractions": [0.5, 1.0], "curves": ["bleeds"], "center": "ich"}
    looked |= {"dose": {"stage": "bleeds", "data": {"50 %": "half"}}}
    return {"medkit": 1, "name": "small", "data": {"ich": ich, "half": half}, "stages": stages, "card": looked}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "panel.yaml"
    path.write_text(yaml.safe_dump({**panel(), **changes}))
    return path


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("card")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(folder / "cache"))
        yield card("timm:test_resnet", str(written(folder)), device="cpu", quiet=True)


def test_every_probe_has_its_interval_and_counts_beside_random_ones(found):
    assert [one["stage"] for one in found["probes"]] == ["bleeds", "masks"]
    for one in found["probes"]:
        assert len(one["random"]) == 2
        for value in (one["encoder"], *one["random"]):
            assert {"value", "low", "high", "n", "n_patients", "method", "chosen"} <= set(value)
            assert value["n_patients"] >= 1


def test_a_curve_has_a_value_for_each_fraction_and_seed_and_ends_where_the_probe_is(found):
    curve = found["curves"]["bleeds"]["encoder"]
    assert {fraction: len(values) for fraction, values in curve.items()} == {"0.5": 2, "1": 2}
    assert curve["1"][0] == found["probes"][0]["encoder"]["value"]


def test_features_without_a_task_lie_between_what_they_can_be(found):
    features = found["features"]
    assert 1 <= features["rankme"]["encoder"]["value"] <= features["width"]
    assert features["alignment"]["encoder"]["value"] >= 0
    assert all(0 <= one["value"] <= 1 for one in features["cka"].values())


def test_centres_doses_speed_and_the_ledger_are_told(found):
    assert found["center"]["centers"] == 3
    assert len(found["center"]["encoder"]) == 2
    assert found["dose"][0]["encoder"]["n_patients"] == found["probes"][0]["encoder"]["n_patients"]
    assert found["speed"]["slices_per_second"] > 0
    assert found["encoder"]["ledger"] == {
        "known": True,
        "seen": [],
        "test": [{"data": "ich", "patients": found["encoder"]["ledger"]["test"][0]["patients"], "seen": 0}],
    }


def test_the_page_calls_phantoms_phantoms_and_is_self_contained(found, tmp_path):
    path = write_card(tmp_path / "card", found)
    text = path.read_text()
    assert "All images are synthetic phantoms" in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert json.loads((tmp_path / "card/card.json").read_text())["panel"]["name"] == "small"
    with pytest.raises(InputError, match="exists"):
        write_card(tmp_path / "card", found)


def test_the_page_warns_of_test_patients_that_were_seen(found):
    ledger = {"known": True, "seen": [], "test": [{"data": "ich", "patients": 6, "seen": 2}]}
    text = card_page({**found, "encoder": {**found["encoder"], "ledger": ledger}})
    assert "2 of 6 test patients of &#39;ich&#39; were seen" in text


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"card": {"test": "test"}}, "'card' lacks 'seeds'"),
        ({"card": {"test": "tst", "seeds": [1]}}, "has no split 'tst'"),
        ({"card": {"test": "test", "seeds": [1], "curve": []}}, "did you mean 'curves'"),
        ({"card": {"test": "test", "seeds": [1], "curves": ["bleed"]}}, "did you mean 'bleeds'"),
        ({"card": {"test": "test", "seeds": []}}, "card.seeds"),
        (
            {"stages": [{"name": "a", "data": "ich", "objective": {"use": "probe", "encoder": {"use": "timm"}}}]},
            "leave it",
        ),
    ],
)
def test_a_panel_with_a_mistake_is_refused(tmp_path, changes, told):
    with pytest.raises(MedkitError, match=told):
        read_panel(written(tmp_path, **changes))


def test_the_bundled_panel_is_well_formed():
    found = read_panel("phantoms")
    assert {stage.data for stage in found.recipe.stages} == {"ich", "views", "hands"}
