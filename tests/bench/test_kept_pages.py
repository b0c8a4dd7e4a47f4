"""Numbers in the docs that come from kept results are those of the files: every marked place, made again."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from medkit_benchmarks import verdicts

from medkit.bench import results as saved
from medkit.bench.ratio import markdown as ratios
from medkit.bench.table import markdown as cases

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
MARK = re.compile(r"<!-- bench (.+?) -->\n(.*?)<!-- end -->", re.DOTALL)
MARKED = [
    pytest.param(page, found[1], found[2], id=f"{page.name}-{found[1]}")
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for found in MARK.finditer(page.read_text("utf-8"))
]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kept(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


MAKERS: dict[str, Callable[[str], str]] = {
    "ratios": lambda _: ratios(RESULTS),
    "cpu": lambda _: cases(saved.read(RESULTS / "cpu-x86_64.json"), promised=True),
    "claims": lambda _: script("claims").page(),
    "verdicts": lambda _: verdicts.markdown(kept("verdicts")),
    "real_noise": lambda _: script("real_noise").page(kept("real_noise")),
    "study": lambda name: script("keep_study").table(kept(f"studies/{name}")),
    "table": lambda name: script("kept_table").page(kept(f"tables/{name}")),
    "run": lambda name: script("keep_run").page(kept(f"runs/{name}")),
}


@pytest.mark.parametrize(("page", "mark", "text"), MARKED)
def test_a_marked_place_says_what_its_file_says(page: Path, mark: str, text: str) -> None:
    kind, _, name = mark.partition(" ")
    assert text == MAKERS[kind](name).rstrip() + "\n"


def test_all_that_is_kept_has_its_place_in_the_docs() -> None:
    marks = {found.values[1] for found in MARKED}
    runs = {f"{kind[:-1]} {path.stem}" for kind in ("runs", "tables") for path in (RESULTS / kind).glob("*.json")}
    files = {path.stem: json.loads(path.read_text("utf-8")) for path in (RESULTS / "studies").glob("*.json")}
    studies = {f"study {name}" for name, found in files.items() if "claim" not in found}
    assert runs | studies <= marks


def section(page: str, start: str, end: str) -> str:
    """A part of a page, from one text to another."""
    _, found, rest = (ROOT / "docs" / page).read_text("utf-8").partition(start)
    assert found
    return rest.partition(end)[0]


def test_what_is_said_of_nnunet_is_in_its_results() -> None:
    dice = kept("nnunet/2d-results")["segment"]["external"]["dice"]
    told = f"DSC of {dice['value']:.2f} [{dice['low']:.2f}, {dice['high']:.2f}]"
    text = section("baselines_volume.md", "`.ci/nightly` trains it", "`medkit data")
    assert told in text.replace("\n", " ")
    assert kept("nnunet/3d_fullres-results")["segment"]["external"]["dice"]["value"] == 0


def test_as_many_kills_were_survived_as_is_said() -> None:
    log = (RESULTS / "kills.log").read_text("utf-8")
    text = section("cluster.md", "`python tests/kills.py", "`.ci/nightly`").replace("\n", " ")
    said = re.search(r"(\d+) in all, (\d+) of them on two ranks", text)
    assert said is not None
    logged = re.findall(r" on (\d), \w+: (\d+) kills, equal", log)
    logged += re.findall(r", (\d) rank: (\d+) kills of one run, .* equal", log)  # compared by hand
    assert sum(int(kills) for _, kills in logged) == int(said[1])
    assert sum(int(kills) for ranks, kills in logged if ranks == "2") == int(said[2])
    assert "NOT EQUAL" not in log


def test_what_is_said_of_a_card_s_cost_is_in_its_results() -> None:
    card = kept("cards/smartnet")
    memory = card["speed"]["peak_mb"]
    text = section("cards.md", "smartnet.json`.", "machine with other work").replace("\n", " ")
    assert f"took {card['seconds']:.0f} seconds and {memory / 1000:.1f} GB" in text
