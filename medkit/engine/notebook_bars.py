"""Progress bars in a notebook: one piece of HTML below the cell, updated in place, and gone at the end.

rich's bars would need ipywidgets there; what IPython itself has is enough.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from html import escape
from typing import Any

OFTEN = 0.2  # seconds between two updates


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    shell = type(get_ipython())
    return shell.__name__ == "ZMQInteractiveShell" or "google.colab" in shell.__module__


@dataclass
class _Bar:
    name: str
    total: float | None
    started: float
    completed: float = 0
    note: str = ""

    def html(self, now: float) -> str:
        of = f"{self.completed:g}" + (f" of {self.total:g}" if self.total else "")
        left = ""
        if self.total and 0 < self.completed < self.total:
            seconds = round((now - self.started) / self.completed * (self.total - self.completed))
            left = f"{seconds // 60}:{seconds % 60:02d} left"
        share = f' value="{self.completed:g}" max="{self.total:g}"' if self.total else ""
        cells = (escape(self.name), f"<progress{share}></progress>", of, left, escape(self.note))
        return "<tr>" + "".join(f'<td style="text-align: left">{cell}</td>' for cell in cells) + "</tr>"


class NotebookBars:
    """Bars as :class:`rich.progress.Progress` has them, as far as medkit uses them."""

    def __init__(self) -> None:
        self.console = self
        self._bars: dict[int, _Bar] = {}
        self._next, self._shown = 0, 0.0
        self._display: Any = None

    def start(self) -> None:
        from IPython.display import HTML, display

        self._display = display(HTML(""), display_id=True)

    def stop(self) -> None:
        self._bars.clear()
        self._show()

    def add_task(self, name: str, total: float | None = None, note: str = "") -> int:
        self._next += 1
        self._bars[self._next] = _Bar(name, total, time.monotonic(), note=note)
        self._show()
        return self._next

    def update(self, bar: int, **values: Any) -> None:
        for name, value in values.items():
            setattr(self._bars[bar], name, value)
        if time.monotonic() - self._shown >= OFTEN:
            self._show()

    def remove_task(self, bar: int) -> None:
        self._bars.pop(bar, None)
        self._show()

    def print(self, text: str, **_: Any) -> None:
        """A line that stays."""
        print(text, file=sys.stderr, flush=True)

    def _show(self) -> None:
        from IPython.display import HTML

        self._shown = time.monotonic()
        rows = "".join(bar.html(self._shown) for bar in self._bars.values())
        if self._display is not None:
            self._display.update(HTML(f"<table>{rows}</table>" if rows else ""))
