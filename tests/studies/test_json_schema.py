"""The JSON Schema of studies agrees with the reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from medkit.errors import InputError
from medkit.studies.json_schema import json_schema
from medkit.studies.reader import bundled, load_study

STUDY: dict[str, Any] = {
    "medkit": 1,
    "name": "small",
    "recipe": "tiny_ich_cls",
    "vary": {"seed": [1, 2], "stages.classify.optim.lr": {"slow": 1e-4, "fast": 1e-3}},
    "methods": {"as_it_is": None, "scratch": {"skip": ["pretext"]}},
    "compare": {
        "metric": "auc",
        "stage": "classify",
        "split": "internal",
        "reference": "scratch",
        "unequal": {"steps": "one of them has no pretext"},
        "also": [{"metric": "auc", "stage": "classify", "split": "external"}],
    },
    "claim": {"says": "it helps", "better": ["as_it_is"], "source": "us", "limits": "phantoms"},
    "search": {
        "trials": 2,
        "over": {"stages.classify.optim.weight_decay": {"low": 1e-4, "high": 1e-2, "log": True}},
        "metric": "auc",
        "at": {"seed": 1},
        "seed": 0,
    },
}
CROSS = {"base": {}, "none": {"skip": ["pretext"]}, "factors": {"a": {"seed": 1}, "b": {"report.splits": ["test"]}}}
ROWS = {"medkit": 1, "name": "rows", "recipe": "tables/table10", "vary": {"seed": [1, 2]}, "rows": ["denoise"]}
PLACES = [(), ("compare",), ("compare", "unequal"), ("compare", "also", 0), ("claim",), ("search",)]


def errors(study: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(json_schema()).iter_errors(study)]


def told(study: Any, folder: Path) -> str:
    """What the reader says against a study."""
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    try:
        load_study(folder / "study.yaml")
    except InputError as error:
        return str(error)
    return ""


def changed(place: tuple[Any, ...], **keys: Any) -> dict[str, Any]:
    found = yaml.safe_load(yaml.safe_dump(STUDY))
    inner = found
    for key in place:
        inner = inner[key]
    inner.update(keys)
    return found


@pytest.mark.parametrize("name", [name for name, _ in bundled()])
def test_bundled_studies_fit(name: str) -> None:
    assert errors(yaml.safe_load(dict(bundled())[name].read_text("utf-8"))) == []


def test_every_key_is_taken_by_both(tmp_path: Path) -> None:
    crossed = {key: value for key, value in STUDY.items() if key not in ("methods", "compare", "claim", "search")}
    timed = {key: value for key, value in changed(("compare",), seconds={"classify": 5}).items() if key != "search"}
    for study in (STUDY, timed, {**crossed, "cross": CROSS}, ROWS):
        assert errors(study) == []
        assert told(study, tmp_path) == ""


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_an_unknown_key_is_refused_by_both(tmp_path: Path, place: tuple[Any, ...]) -> None:
    study = changed(place, colour="red")
    assert any("colour" in error for error in errors(study))
    assert "colour" in told(study, tmp_path)


@pytest.mark.parametrize(
    ("place", "keys"),
    [
        ((), {"medkit": 2}),
        ((), {"vary": {"seed": ["one"]}}),
        ((), {"vary": {"seed": [-1]}}),
        ((), {"vary": {"stages.classify.optim.lr": 1e-3}}),
        ((), {"methods": {}}),
        (("methods", "scratch"), {"skip": "pretext"}),
        (("search",), {"trials": 0}),
        (("search",), {"over": {"stages.classify.optim.lr": [1e-3]}}),
        (("search",), {"over": {}}),
        (("claim",), {"better": []}),
        (("compare",), {"seconds": {"classify": 0}}),
    ],
)
def test_a_wrong_value_is_refused_by_both(tmp_path: Path, place: tuple[Any, ...], keys: dict[str, Any]) -> None:
    study = changed(place, **keys)
    assert errors(study)
    assert (place or tuple(keys))[0] in told(study, tmp_path)
