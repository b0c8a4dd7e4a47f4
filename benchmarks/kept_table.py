"""A small table of measurements for the docs: its file, with machine, versions and commit, and its Markdown.

Scripts that measure one thing, not two ways in turn, :func:`keep` what they find. A page shows it between
two lines that a test compares with the file::

    python benchmarks/kept_table.py coverage --into docs/metrics.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from medkit_benchmarks import script

from medkit.bench import table as markdown
from medkit.bench.results import environment, replace
from medkit.bench.table import fill
from medkit.errors import InputError, MedkitError

RESULTS = Path(__file__).parent / "results" / "tables"


def keep(name: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]], note: str) -> None:
    """Print a table and write it to ``results/tables/NAME.json``.

    Parameters
    ----------
    columns:
        What each column holds, and its format (``.1f``; empty for text).
    note:
        How it was measured, in a sentence or two.
    """
    if any(len(row) != len(columns) for row in rows):
        raise ValueError(f"every row needs {len(columns)} cells")
    content = {
        "name": name,
        "columns": dict(columns),
        "rows": [list(row) for row in rows],
        "note": note,
        "environment": environment(torch.device("cpu"), []),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    replace(RESULTS / f"{name}.json", json.dumps(content, indent=1) + "\n")
    print(page(content))


def read(name: str) -> dict[str, Any]:
    """What :func:`keep` wrote.

    Raises
    ------
    InputError
        if there is no such file.
    """
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in RESULTS.glob("*.json")))
        raise InputError(f"no table is kept under '{name}'", str(RESULTS), f"there are {known or 'none'}")
    return dict(json.loads(path.read_text("utf-8")))


def page(found: Mapping[str, Any]) -> str:
    """A kept table as Markdown, with what it was measured on."""
    columns = found["columns"]
    rows = [[_cell(value, style) for value, style in zip(row, columns.values(), strict=True)] for row in found["rows"]]
    about = found["environment"]
    origin = (
        f"{found['note']} medkit at {about['commit'] or about['medkit']}, {about['device']}, {about['measured'][:10]}."
    )
    return "\n".join([*markdown.table(list(columns), rows), origin])


def _cell(value: Any, style: str) -> str:
    return "–" if value is None else format(value, style)


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("name", help="a file of benchmarks/results/tables")
    parser.add_argument(
        "--into", type=Path, help="a page with the lines '<!-- bench table NAME -->' and '<!-- end -->'"
    )
    said = parser.parse_args()
    try:
        text = page(read(said.name))
        print(text) if said.into is None else fill(said.into, f"table {said.name}", text)
    except MedkitError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
