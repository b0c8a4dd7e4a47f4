"""Programs of their own end with medkit, however it ends, with all that they have started."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medkit.engine.progress import Progress
from medkit.errors import InputError, RunError
from medkit.runs import external
from medkit.runs.external import PROGRAM, Work, refuse_living
from medkit.runs.lock import begun

# Starts a child of its own, says both process ids and does not listen to SIGINT.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""
MEDKIT = f"""
import sys
from pathlib import Path
from medkit.engine.progress import Progress
from medkit.runs.external import Work
work = Work(Path(sys.argv[1]), lambda case: None, "cpu", Progress(quiet=True))
work.run([sys.executable, "-c", {STUBBORN!r}], "log.txt", {{}}, lambda line: print(line, flush=True))
"""


def run(folder: Path, program: str, *, work: Work | None = None) -> None:
    work = work or Work(folder, lambda case: None, "cpu", Progress(quiet=True))
    work.run([sys.executable, "-c", program], "log.txt", {})


def gone(pid: int, seconds: float = 10) -> bool:
    limit = time.monotonic() + seconds
    while begun(pid):
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def test_a_program_of_a_killed_medkit_is_killed_with_what_it_has_started(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", MEDKIT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(text) for text in process.stdout.readline().split()]
    process.kill()
    process.wait()
    assert [gone(pid) for pid in pids] == [True, True]


def test_what_a_program_leaves_behind_when_it_ends_is_ended(tmp_path: Path) -> None:
    leaving = STUBBORN.replace("time.sleep(600)\n", "os._exit(3)\n")
    assert leaving.count("time.sleep(600)") == 1
    with pytest.raises(RunError, match="exit code 3"):
        run(tmp_path, leaving)
    pids = [int(text) for text in (tmp_path / "log.txt").read_text().splitlines()[-1].split()]
    assert [gone(pid) for pid in pids] == [True, True]


@pytest.mark.slow
def test_a_program_is_ended_with_all_of_its_own_even_if_it_does_not_listen(tmp_path: Path) -> None:
    pids: list[int] = []

    def stop(line: str) -> None:
        pids.extend(int(text) for text in line.split())
        raise KeyboardInterrupt

    work = Work(tmp_path, lambda case: None, "cpu", Progress(quiet=True))
    with pytest.raises(KeyboardInterrupt):
        work.run([sys.executable, "-c", STUBBORN], "log.txt", {}, stop)
    assert [gone(pid) for pid in pids] == [True, True]
    assert not (tmp_path / PROGRAM).exists()


@pytest.mark.parametrize(
    ("program", "code"), [("raise SystemExit(3)", "3"), ("import os; os.kill(os.getpid(), 9)", "-9")]
)
def test_a_program_that_fails_is_told_with_its_own_exit_code(tmp_path: Path, program: str, code: str) -> None:
    with pytest.raises(RunError, match=rf"failed with exit code {code}"):
        run(tmp_path, program)


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    work = Work(tmp_path, lambda case: None, "cpu", Progress(quiet=True))
    with pytest.raises(RunError, match="no-such-program: No such file"):
        work.run(["no-such-program"], "log.txt", {})


def test_signals_reach_a_program_as_those_of_any_other(tmp_path: Path) -> None:
    asked = "import signal; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    run(tmp_path, f"{asked}; assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL")


def test_a_run_is_not_gone_on_with_beside_a_program_that_still_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "external" / "segment"
    folder.mkdir(parents=True)
    pid = os.getpid()
    noted = {"pid": pid, "begun": begun(pid), "host": socket.gethostname(), "program": "nnUNetv2_train"}
    (folder / PROGRAM).write_text(json.dumps(noted))
    monkeypatch.setattr(external, "PATIENCE", 0.1)
    with pytest.raises(
        InputError, match=rf"nnUNetv2_train from an earlier attempt is still at work here \(process {pid}\)"
    ):
        refuse_living(tmp_path)
    (folder / PROGRAM).write_text(json.dumps(noted | {"begun": "12"}))
    refuse_living(tmp_path)
    assert not (folder / PROGRAM).exists()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_signals_meant_for_medkit_do_not_end_the_supervisor(tmp_path: Path, number: int) -> None:
    program = f"import os, time; os.kill(os.getppid(), {int(number)}); time.sleep(0.3)"
    run(tmp_path, program)
