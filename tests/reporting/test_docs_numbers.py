"""Tables of the docs that are made of files under ``benchmarks/results`` show the numbers of these files."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _measured(words: str) -> str:
    """The second cell of a row of README's table of what has been measured."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return next(line for line in text.splitlines() if line.startswith(f"| {words}")).split(" | ")[1]


def test_the_readme_shows_the_kept_numbers_of_probes_of_few_labels() -> None:
    kept = json.loads((ROOT / "benchmarks" / "results" / "studies" / "pretexts_ich.json").read_text())
    means = {
        one["method"]: one["mean"]
        for compared in kept["compared"]
        for one in compared["summaries"]
        if one["place"] == ["0.1"] and compared["metric"] == "auc"
    }
    shown = [float(number) for number in re.findall(r"\d\.\d+", _measured("What a probe reads"))]
    assert shown == [round(means["scratch"], 3), round(means["smartnet"], 3)]


def test_the_readme_shows_the_kept_range_of_intervals_that_hold() -> None:
    kept = json.loads((ROOT / "benchmarks" / "results" / "verdicts.json").read_text())
    held = [one["held"] for one in kept if one.get("kind") == "normal"]
    shown = [
        float(number) for number in re.findall(r"[\d.]+", _measured("How many of 100 simulated verdict intervals"))
    ]
    assert shown == [round(100 * min(held), 1), round(100 * max(held), 1)]


def test_the_readme_shows_the_kept_pace_and_memory_of_a_million_images() -> None:
    epoch = json.loads((ROOT / "benchmarks" / "results" / "million.json").read_text())["epoch"]
    pace, memory = _measured("An epoch over a million").replace(",", "").split("; ")
    assert int(pace) == epoch["items_a_second"]
    assert {f"{one:.0f}" for one in epoch["own_memory_mb"]} == {memory.split()[0]}
