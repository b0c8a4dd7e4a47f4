"""Rows as processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from medkit.data.processes import die_with
from medkit.executors import Row

PATIENCE = 10.0  # seconds that a row has to end in good order


class Local:
    """At most ``at_once`` processes, each with all that it starts in a group of its own."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self._waiting: list[Row] = []
        self._running: list[subprocess.Popen[bytes]] = []
        self._folder = Path()

    def start(self, rows: Sequence[Row], folder: Path) -> str:
        self._waiting, self._folder = list(rows), folder
        self.running()
        return f"{len(rows)} processes, {min(self.at_once, len(rows))} at once"

    def running(self) -> bool:
        self._running = [process for process in self._running if process.poll() is None]
        while self._waiting and len(self._running) < self.at_once:
            self._running.append(self._begin(self._waiting.pop(0)))
        return bool(self._running)

    def _begin(self, row: Row) -> subprocess.Popen[bytes]:
        with (self._folder / f"{row.name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "medkit", *row.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **row.environ},
                start_new_session=True,
                preexec_fn=lambda: die_with(None),  # whoever waits for rows may be killed, and leaves none behind
            )

    def leave(self) -> None:
        self.end()

    def end(self) -> None:
        self._waiting = []
        for process in self._running:
            _signal(process, signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
