"""Keep a study in the docs: its numbers, its pictures and a table of its means, all from the files of its report.

medkit study run pretexts_ich --out runs/pretexts_ich
python benchmarks/keep_study.py runs/pretexts_ich --into docs/studies.md
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medkit_benchmarks import script

from medkit.bench import table as markdown
from medkit.bench.table import fill
from medkit.errors import InputError, MedkitError
from medkit.records import encoded, write_atomically
from medkit.studies.results import StudyResults

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "studies"
IMAGES = HERE.parent / "docs" / "images"
IMAGE = re.compile(r'<img alt="([^"]*)" src="data:image/svg\+xml;base64,([^"]+)"')
WANTED = {"label efficiency": "labels", "difference of": "effects", "time of each method": "cost"}


def table(found: Mapping[str, Any]) -> str:
    """Means over seeds with lowest and highest, as Markdown; bold where a method is shown to be better than
    the reference, in italics where worse.

    A study that varies nothing but seeds gets one table, with a column for each number that is compared.
    """
    compared = found["compared"]
    if all(tuple(summary["place"]) == () for one in compared for summary in one["summaries"]):
        where = {(one["stage"], one["split"]) for one in compared}
        if len(where) == 1:
            columns = [(one["metric"].upper(), _cells(one, ())) for one in compared]
            return "\n".join([f"{_where(compared[0])}:", "", *_table(columns), _made(found)])
        columns = [(f"{one['metric'].upper()}, {_where(one)}", _cells(one, ())) for one in compared]
        return "\n".join([*_table(columns), _made(found)])
    lines = []
    for one in compared:
        places = dict.fromkeys(tuple(s["place"]) for s in one["summaries"])
        columns = [(", ".join(place) or "all", _cells(one, place)) for place in places]
        lines += [f"{one['metric'].upper()} of {_where(one)}:", "", *_table(columns)]
    return "\n".join([*lines, _made(found)])


def _where(one: Mapping[str, Any]) -> str:
    return f"`{one['stage']}` on `{one['split']}`"


def _cells(one: Mapping[str, Any], place: tuple[str, ...]) -> dict[str, str]:
    """What a column says of each method."""
    mine = {s["method"]: s for s in one["summaries"] if tuple(s["place"]) == place}
    verdicts = [v for at in one["verdicts"] if tuple(at["place"]) == place for v in at["verdicts"]]
    marks = {v["a"]: "**" if v["better"] == v["a"] else "*" for v in verdicts if v["better"]}
    cells = {method: _cell(summary, marks.get(method, "")) for method, summary in mine.items()}
    if one.get("input") is not None:
        cells["the input itself"] = f"{one['input']:.{_digits(one['input'])}f}"
    return cells


def _input(study: Path, one: Mapping[str, Any]) -> float | None:
    """The score of the input itself, where all trials measured the same one (denoising)."""
    found = set()
    for path in study.glob("trials/*/results.json"):
        results = json.loads(path.read_text("utf-8"))
        value = results.get(one["stage"], {}).get(one["split"], {}).get(one["metric"], {}).get("input")
        found.add(None if value is None else round(value, 9))
    return found.pop() if len(found) == 1 else None


def _table(columns: Sequence[tuple[str, Mapping[str, str]]]) -> list[str]:
    methods = dict.fromkeys(method for _, cells in columns for method in cells)
    rows = [(method, *(cells.get(method, "–") for _, cells in columns)) for method in methods]
    return markdown.table(("method", *(head for head, _ in columns)), rows)


def _cell(summary: Mapping[str, Any], mark: str) -> str:
    if summary["mean"] is None:
        return "–"
    digits = _digits(summary["mean"])
    mean = f"{summary['mean']:.{digits}f}"
    return f"{mark}{mean}{mark} ({summary['low']:.{digits}f} to {summary['high']:.{digits}f})"


def _digits(value: float) -> int:
    return 3 if abs(value) < 10 else 1


def _not_learned(found: Mapping[str, Any]) -> str:
    """Methods of which trainings do not beat an answer that looks at no image, on the very cases they were trained on."""
    missed = found.get("not_learned", {})
    if not missed:
        return ""
    each = max(of for _, of in missed.values())
    named = ", ".join(
        f"`{method}`" + (f" ({count} of {of})" if each > 1 else "") for method, (count, of) in missed.items()
    )
    checked = "one training of each was checked" if each == 1 else f"up to {each} trainings of each were checked"
    metric = found["compared"][0]["metric"]
    return f"No better in `{metric}` than the trivial answer on their own training cases ({checked}): {named}. "


def _made(found: Mapping[str, Any]) -> str:
    made, one = found["made"], found["compared"][0]
    seeds = max(summary["seeds"] for summary in one["summaries"])
    patients = {v["patients"] for each in found["compared"] for at in each["verdicts"] for v in at["verdicts"]}
    on = f", {' or '.join(map(str, sorted(patients)))} test patients" if patients else ""
    minutes = sum(cost["seconds"] for cost in found["cost"].values()) / 60
    return (
        f"{_not_learned(found)}{seeds} seeds{on}; {minutes:.0f} minutes of training and evaluation in all. medkit {made['medkit']} at "
        f"{made['commit'][:7]}, torch {made['libraries']['torch']}, {made['device']}, {made['started'][:10]}."
    )


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("study", type=Path, help="the folder of a finished study")
    parser.add_argument(
        "--into", type=Path, help="a page with the lines '<!-- bench study NAME -->' and '<!-- end -->'"
    )
    parser.add_argument("--commit", help="commit of the medkit that ran it; default: that of this checkout")
    arguments = parser.parse_args()
    try:
        keep(arguments.study, arguments.commit, arguments.into)
    except MedkitError as error:
        sys.exit(f"error: {error}")


def keep(study: Path, commit: str | None, page: Path | None) -> None:
    """Write ``results/studies/NAME.json``; with a page, also its table into the page, and the pictures that the page shows."""
    if not (study / "summary.json").is_file():
        raise InputError("the study has no report", str(study), f"medkit study report {study}")
    found = json.loads((study / "summary.json").read_text("utf-8"))
    trial = json.loads(next((study / "trials").glob("*/environment.json")).read_text("utf-8"))
    commit = commit or subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=HERE, text=True).strip()
    results = StudyResults.read(study)
    methods = {trial.name: trial.method for trial in results.trials}
    measured = Counter(methods[name] for name in results.own_data)
    missed = Counter(methods[name] for name, own in results.own_data.items() if not own.beaten)
    found["not_learned"] = {method: [count, measured[method]] for method, count in sorted(missed.items())}
    keys = ("medkit", "python", "system", "cores", "libraries", "device", "started")
    found["made"] = {key: trial[key] for key in keys} | {"commit": commit}
    for one in found["compared"]:
        if (score := _input(study, one)) is not None:
            one["input"] = score
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_atomically(RESULTS / f"{found['study']}.json", encoded(json.dumps(found, indent=1) + "\n"))
    if page is None:
        return
    shown = page.read_text("utf-8")
    for title, data in IMAGE.findall((study / "report.html").read_text("utf-8")):
        for start, name in WANTED.items():
            picture = f"{found['study']}_{name}.svg"
            if title.startswith(start) and picture in shown:
                write_atomically(IMAGES / picture, base64.b64decode(data))
    fill(page, f"study {found['study']}", table(found))


if __name__ == "__main__":
    main()
