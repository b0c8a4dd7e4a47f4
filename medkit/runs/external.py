"""Stages that a separate program trains: its folder, its commands with logs and progress, its predictions."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from medkit.engine import interrupt
from medkit.engine.progress import Progress
from medkit.errors import InputError, RunError
from medkit.protocols import Case, Record
from medkit.records import write_atomically
from medkit.runs.footprint import Footprint
from medkit.runs.lock import begun

SHOWN = 4  # last lines shown of a program that failed
PATIENCE = 15.0  # seconds that a program has to end
PROGRAM = "program.json"
"""In the folder of a stage, while a program works there: which one."""
SUPERVISOR = str(Path(__file__).with_name("supervisor.py"))


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
        supervised = [sys.executable, "-I", "-S", SUPERVISOR, str(os.getpid()), *command]
        with path.open("a", encoding="utf-8") as file:
            file.write(f"$ {shlex.join(command)}\n")
            file.flush()
            program = subprocess.Popen(
                supervised,
                cwd=self.folder,
                env=os.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # a terminal's Ctrl-C reaches medkit alone, which ends the program
            )
            assert program.stdout is not None
            try:
                self._note(program.pid, command)
                with interrupt.cleaning(program.terminate), self.footprint.watching(program.pid):
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
            finally:
                self.folder.joinpath(PROGRAM).unlink(missing_ok=True)
        if program.returncode != 0:
            said = " / ".join(text.strip() for text in last)
            what = f"{Path(command[0]).name} failed with exit code {program.returncode}: {said}"
            raise RunError(what, str(path), "this file holds everything it said")

    def _note(self, pid: int, command: Sequence[str]) -> None:
        """Say who works here, for a resume after this process is killed."""
        noted = {"pid": pid, "begun": begun(pid), "host": socket.gethostname(), "program": Path(command[0]).name}
        write_atomically(self.folder / PROGRAM, json.dumps(noted).encode())


def _end(program: subprocess.Popen[str]) -> None:
    """Let the supervisor end its program with everything that it has started."""
    program.terminate()
    try:
        program.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        program.kill()  # the program goes with it
        program.wait()


def refuse_living(run: Path) -> None:
    """Refuse to continue in a run folder in which a program of an earlier attempt is still at work.

    Raises
    ------
    InputError
        naming its process.
    """
    end = time.monotonic() + PATIENCE  # it ends by itself when the process that started it was killed
    for path in sorted(run.glob(f"external/*/{PROGRAM}")):
        try:
            noted = json.loads(path.read_text(encoding="utf-8"))
            pid, then, host, name = noted["pid"], noted["begun"], noted["host"], noted["program"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if host != socket.gethostname():
            continue  # the lock of the run folder has reported it
        while begun(pid) == then:
            if time.monotonic() > end:
                what = f"{name} from an earlier attempt is still at work here (process {pid})"
                raise InputError(what, str(path.parent), f"wait until it has ended, or end it: kill {pid}")
            time.sleep(0.1)
        path.unlink(missing_ok=True)
