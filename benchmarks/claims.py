"""The page of claims, from the kept studies: what was claimed beforehand, what was found, on what, and how sure it is.

python benchmarks/keep_study.py runs/several_pretexts_beat_one
python benchmarks/claims.py [--into docs/claims.md]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medkit_benchmarks import script

from medkit.bench import table as markdown
from medkit.bench.table import fill
from medkit.errors import MedkitError
from medkit.studies.reader import bundled, load_study
from medkit.studies.study import Claim

RESULTS = Path(__file__).parent / "results" / "studies"
TITLE = "claims"


def kept() -> list[Mapping[str, Any]]:
    """The kept studies that carry a claim."""
    found = [json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    return [one for one in found if "claim" in one]


def page() -> str:
    """A table of all claims, then each with the numbers of its comparisons."""
    found = kept()
    rows = [(f"[{one['study']}](#{one['study']})", one["claim"]["says"], one["claim"]["found"]) for one in found]
    lines = markdown.table(("study", "claim", "on phantoms"), rows)
    written = claims()
    for one in found:
        lines += section(one, written.pop(one["study"]).limits)
    left = [f"- `{name}`: {claim.says}" for name, claim in written.items()]
    return "\n".join([*lines, *(["### Not run yet", "", *left] if left else [])])


def claims() -> dict[str, Claim]:
    """The bundled claims by the names of their studies."""
    studies = [load_study(name) for name, _ in bundled() if name.startswith("claims/")]
    return {study.name: study.claim for study in studies if study.claim is not None}


def section(one: Mapping[str, Any], limits: str) -> list[str]:
    """A claim with what was found; ``limits`` is what its study says that it cannot say."""
    claim, compared = one["claim"], one["compared"][0]
    rows = [
        (
            f"{verdict['a']} − {verdict['b']}" + (f", {', '.join(at['place'])}" if at["place"] else ""),
            f"{verdict['estimate']:.3f}" + _interval(verdict),
            str(verdict["seeds"]),
            str(verdict["patients"]),
            _probability(verdict["probability"]),
            _number(verdict["smallest_difference"], 3),
        )
        for at in compared["verdicts"]
        for verdict in at["verdicts"]
    ]
    heads = ("difference", f"{compared['metric']} [95 %]", "seeds", "patients", "wins again", "could be shown")
    made = one["made"]
    return [
        f"### {one['study']}",
        "",
        claim["says"],
        "",
        f"- **{claim['found'].capitalize()}**: {claim['why']}.",
        f"- Claimed in: {claim['source']}.",
        f"- Measured: `{compared['stage']}` on `{compared['split']}`, by `medkit study run claims/{one['study']}` with medkit "
        f"{made['medkit']} at {made['commit'][:7]}, {made['device']}, {made['started'][:10]}.",
        *([f"- What this study cannot say: {limits}"] if limits else []),
        *_renamed(one),
        "",
        *markdown.table(heads, rows),
        *_beside(claim),
    ]


def _beside(claim: Mapping[str, Any]) -> list[str]:
    """The numbers of claims that are not about means, a list item each."""
    lines = []
    for one in claim.get("numbers", []):
        within = f"[{_number(one['low'], 3)}, {_number(one['high'], 3)}]"
        if one["kind"] == "spread":
            of = [f"{deviation:.3f}" for deviation in one["deviations"]]
            text = (
                f"standard deviation over {one['seeds']} seeds: {one['a']} {of[0]}, {one['b']} {of[1]}; "
                f"ratio {_number(one['ratio'], 2)} {within}"
            )
        else:
            on = f"{one['patients']} patients, {one['patients_before']} before"
            text = f"{one['a']} keeps {_number(one['estimate'], 3)} {within} more than {one['b']} ({one['seeds']} seeds, {on})"
        lines.append(f"- {text}; p = {_number(one['p_holm'], 3)} after correction.")
    return [*lines, ""] if lines else []


def _renamed(one: Mapping[str, Any]) -> list[str]:
    """Methods that have another name in the study's file now, a list item each."""
    return [f"- `{old}` is now called `{new}`: {why}." for old, (new, why) in one.get("renamed", {}).items()]


def _probability(value: float | None) -> str:
    return "> 0.99" if value is not None and value > 0.99 else _number(value, 2)


def _interval(verdict: Mapping[str, Any]) -> str:
    return "" if verdict["low"] is None else f" [{verdict['low']:.3f}, {verdict['high']:.3f}]"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--into", type=Path, help="a page with the lines '<!-- bench claims -->' and '<!-- end -->'")
    arguments = parser.parse_args()
    try:
        print(page()) if arguments.into is None else fill(arguments.into, TITLE, page())
    except MedkitError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
