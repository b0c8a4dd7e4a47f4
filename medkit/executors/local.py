"""Rows as processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from medkit.data.processes import die_with
from medkit.engine.launch import AFTER_A_SIGNAL
from medkit.executors import Row

PATIENCE = AFTER_A_SIGNAL + 10.0  # seconds that rows have to end in good order: more than a row gives its ranks


class Local:
    """At most ``at_once`` processes, each in its own group with everything that it starts."""

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
                preexec_fn=lambda: die_with(
                    None
                ),  # the process that waits for rows may be killed, and leaves none behind
            )

    def leave(self) -> None:
        self.end()

    def end(self) -> None:
        """Let rows save and stop; a second Ctrl-C ends them at once."""
        self._waiting = []
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        end = time.monotonic() + PATIENCE
        try:
            for process in self._running:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, end - time.monotonic()))
        finally:
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # also what it has started
                process.wait()
