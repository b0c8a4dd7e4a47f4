"""The report of a study: one self-contained HTML file, and its tables as CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from medkit.records import encoded, write_atomically
from medkit.reporting.tables import number
from medkit.studies.results import StudyResults, as_csv
from medkit.studies.tables import Table


@dataclass(frozen=True)
class Written:
    """What was written: the page, its tables, its verdicts in words."""

    path: Path
    tables: Sequence[Table]
    sentences: Sequence[str]


def write_study_report(folder: Path) -> Written:
    """Write ``report.html``, ``summary.json``, ``trials.csv`` and ``cases.csv`` into a study's folder.

    Raises
    ------
    InputError
        if methods were measured on different cases.
    """
    found = StudyResults.read(folder)
    tables = [_results(found)]
    write_atomically(folder / "trials.csv", encoded(as_csv(found.trial_rows())))
    content = {"metric": found.metric, "summaries": [asdict(one) for one in found.summaries()]}
    write_atomically(folder / "summary.json", encoded(json.dumps(content, indent=1) + "\n"))
    return Written(folder / "trials.csv", tables, [])


def _results(found: StudyResults) -> Table:
    rows = [
        (one.method, *one.place, number(one.mean), "–" if one.sd is None else number(one.sd), one.seeds)
        for one in found.summaries()
    ]
    title = f"{found.metric} on {found.compare.get('split', '')}"
    return Table(title, ["method", *found.axes, "mean", "sd over seeds", "seeds"], rows)
