"""Stages that a program of its own trains: its folder, its commands with logs and progress, its predictions."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from medkit.engine.progress import Progress
from medkit.errors import RunError
from medkit.protocols import Case, Record
from medkit.runs.footprint import Footprint

SHOWN = 4  # last lines of a program that failed


class Work:
    """An :class:`~medkit.protocols.external.ExternalWork` in a run folder, or in any other for a prediction."""

    def __init__(
        self,
        folder: Path,
        load: Callable[[Case], Record],
        device: str,
        progress: Progress,
        keep: Callable[[int, Mapping[str, float]], None] = lambda epoch, values: None,
        footprint: Footprint | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Absolute: programs may run elsewhere.
        self.folder, self.load, self.device = folder.resolve(), load, device
        self.progress, self._keep = progress, keep
        self.footprint = footprint or Footprint()
        self._advance: Callable[..., None] = lambda *arguments, **named: None

    def say(self, text: str) -> None:
        self.progress.say(text)

    @contextmanager
    def task(self, name: str) -> Iterator[None]:
        """Inside, ``advance`` moves a bar of that name."""
        with self.progress.task(name) as advance:
            self._advance = advance
            yield

    def advance(self, done: int, total: int | None = None, note: str = "") -> None:
        self._advance(done, total, note)

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        self._keep(epoch, values)

    def run(
        self, command: Sequence[str], log: str, environ: Mapping[str, str], line: Callable[[str], None] | None = None
    ) -> None:
        last: deque[str] = deque(maxlen=SHOWN)
        path = self.folder / log
        with path.open("a", encoding="utf-8") as file:
            file.write(f"$ {shlex.join(command)}\n")
            file.flush()
            program = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # so that it and what it starts can be ended together
            )
            assert program.stdout is not None
            try:
                with self.footprint.watching(program.pid):
                    for text in program.stdout:
                        file.write(text)
                        file.flush()
                        if text.strip():
                            last.append(text)
                        if line is not None:
                            line(text.rstrip())
                    program.wait()
            except BaseException:
                _end(program)
                raise
        if program.returncode != 0:
            said = " / ".join(text.strip() for text in last)
            what = f"{Path(command[0]).name} failed with exit code {program.returncode}: {said}"
            raise RunError(what, str(path), "this file holds all that it said")


def _end(program: subprocess.Popen[str]) -> None:
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(program.pid, number)
            program.wait(10)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
