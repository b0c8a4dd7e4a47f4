"""Printing: tables on a terminal, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

UNBOUND = 100_000
"""Columns, for programs that read a table line by line."""


def show_json(content: Any) -> None:
    print(json.dumps(content, indent=1, default=str))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """A table that wraps at a terminal's width rather than being cut; where there is no terminal, a row is one line."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")  # variants often differ only at the end of their names
    for row in rows:
        table.add_row(*[str(cell) for cell in row])
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = UNBOUND
    console.print(table)
