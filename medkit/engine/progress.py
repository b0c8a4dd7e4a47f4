"""Progress: bars with time left on a terminal and in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from medkit.engine.notebook_bars import NotebookBars, in_notebook

EVERY = 10.0  # seconds between plain lines of one task
SAME = 300.0  # seconds after which a line is printed again although nothing has changed


class Progress:
    """Shows how far a run has got. ``log`` receives every line that is printed."""

    def __init__(self, quiet: bool = False, log: Callable[[str], None] | None = None) -> None:
        self.quiet, self.log = quiet, log
        self.bars: Any = None

    def __enter__(self) -> Progress:
        if not self.quiet and in_notebook():
            self.bars = NotebookBars()
            self.bars.start()
        elif not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            self.bars = Bars(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=Console(stderr=True),
                transient=True,
            )
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars is not None:
            with suppress(OSError):  # the terminal was closed
                self.bars.stop()
            self.bars = None

    def say(self, text: str) -> None:
        """One line that stays."""
        if self.log is not None:
            self.log(text)
        self._print(text)

    def _print(self, text: str) -> None:
        if self.quiet:
            return
        try:
            if self.bars is not None:
                self.bars.console.print(text, highlight=False, markup=False)
            else:
                print(text, file=sys.stderr, flush=True)
        except OSError:
            self.quiet = True  # nobody is reading any more; training goes on, and the log has every line

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Callable[..., None]]:
        """A long piece of work; the yielded function takes ``(done, total=None, note="")``."""
        if self.bars is not None:
            bar = self.bars.add_task(name, total=total, note="")

            def advance(done: int, total: int | None = None, note: str = "") -> None:
                values = {"completed": done, "note": note} | ({"total": total} if total is not None else {})
                self.bars.update(bar, **values)

            try:
                yield advance
            finally:
                if self.bars is not None:
                    self.bars.remove_task(bar)
            return
        last, said = time.monotonic(), ""

        def tell(done: int, total_now: int | None = None, note: str = "") -> None:
            nonlocal last, said
            if self.quiet or time.monotonic() - last < EVERY:
                return
            of = f" of {total_now or total}" if total_now or total else ""
            text = f"{name}: {done}{of}" + (f", {note}" if note else "")
            if text != said or time.monotonic() - last >= SAME:
                last, said = time.monotonic(), text
                self._print(text)

        yield tell


def numbers(values: Mapping[str, float]) -> str:
    """Values in one short line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())


def rough_duration(seconds: float) -> str:
    """An estimate: ``40 s``, ``12 min``, ``2 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
