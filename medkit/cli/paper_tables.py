"""A run's tables on a terminal: whole where they fit, else one test set after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medkit.cli.output import show_table

if TYPE_CHECKING:
    from medkit.reporting.paper_table_model import PaperTable


def show_paper_table(table: PaperTable) -> None:
    """Print a table with its caption."""
    from rich.console import Console

    from medkit.reporting.paper_table_text import as_text, caption_text

    whole = as_text(table)
    console = Console()
    if not console.is_terminal or _width(*whole) <= console.width:
        show_table(*whole, table.title)
    else:
        for name, indices in table.groups():
            columns, rows = as_text(table, indices, cost=False)
            show_table(columns, rows, f"{table.title}: {name}" if name else table.title)
        if table.cost:
            show_table(*as_text(table, []), f"{table.title}: cost")
    for line in caption_text(table):
        print(line)
    print()


def _width(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Characters that the table takes, with three between columns."""
    widths = [
        max(len(part) for cell in (head, *cells) for part in cell.split("\n"))
        for head, *cells in zip(columns, *rows, strict=True)
    ]
    return sum(widths) + 3 * len(widths)
