"""One process at a time works in a run folder; what a killed one has left is told and taken over."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from medkit.runs.again import evaluate_again

import medkit
from medkit.errors import InputError
from medkit.runs.folder import RunFolder
from medkit.runs.lock import NAME, Holder, locked

HOLD = """
import sys, time
from pathlib import Path
from medkit.runs.folder import RunFolder
from medkit.runs.lock import locked
with locked(RunFolder(Path(sys.argv[1])), "resume"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of ``tmp_path``."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def left(folder: Path, **changes: Any) -> None:
    """A lock that somebody has left behind."""
    (folder / NAME).write_text(json.dumps(asdict(replace(Holder.this("run"), **changes))))


def test_a_folder_in_use_is_refused_naming_who_works_there(tmp_path: Path, elsewhere: subprocess.Popen[str]) -> None:
    with pytest.raises(
        InputError, match=rf"'medkit resume' \(process {elsewhere.pid} on .* is working in this run folder"
    ):
        locked(RunFolder(tmp_path), "run").__enter__()


@pytest.mark.parametrize(
    "use",
    [lambda folder: medkit.resume(folder, quiet=True), lambda folder: evaluate_again(folder, "test")],
    ids=["resume", "evaluate"],
)
def test_whoever_writes_in_a_run_folder_asks_for_its_lock(
    tmp_path: Path, elsewhere: subprocess.Popen[str], use: Callable[[Path], Any]
) -> None:
    (tmp_path / "recipe.yaml").write_text("medkit: 1\n")
    for name in ("state.json", "environment.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match="is working in this run folder"):
        use(tmp_path)


def test_the_lock_of_a_killed_process_is_told_and_taken_over(
    tmp_path: Path, elsewhere: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere.kill()
    os.waitid(os.P_PID, elsewhere.pid, os.WEXITED | os.WNOWAIT)  # dead, and not buried
    with locked(RunFolder(tmp_path), "resume"):
        told = f"the lock of 'medkit resume' (process {elsewhere.pid} on "
        assert told in capsys.readouterr().err
        assert told in (tmp_path / "log.txt").read_text()


def test_a_later_process_of_the_same_number_is_not_the_holder(tmp_path: Path) -> None:
    left(tmp_path, begun="12")
    with locked(RunFolder(tmp_path), "run") as lock:
        assert "is taken over" in lock.notes[0]


def test_a_lock_of_another_machine_is_refused_with_what_to_delete(tmp_path: Path) -> None:
    left(tmp_path, host="node7", pids="other", pid=1)
    with pytest.raises(InputError, match=rf"on node7.*if it has ended there, delete {tmp_path / NAME}"):
        locked(RunFolder(tmp_path), "run").__enter__()


def test_a_lock_from_before_the_machine_was_started_anew_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medkit.runs.lock._machine", lambda: "this one")
    left(tmp_path, pids="boot-before pid:[1]")
    with locked(RunFolder(tmp_path), "run") as lock:
        assert len(lock.notes) == 1


@pytest.mark.parametrize("mine", ["this one", ""])
def test_a_lock_of_a_machine_that_only_has_the_same_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mine: str
) -> None:
    left(tmp_path, machine="" if not mine else "another", pids="boot-of-another pid:[1]")
    monkeypatch.setattr("medkit.runs.lock._machine", lambda: mine)
    with pytest.raises(InputError, match="cannot be checked"):
        locked(RunFolder(tmp_path), "run").__enter__()


def test_a_job_that_its_scheduler_has_started_again_takes_its_own_lock_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(tmp_path, host="node7", pids="other", job="SLURM job 12", attempt=0)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with locked(RunFolder(tmp_path), "run") as lock:
        assert "SLURM job 12" in lock.notes[0]


def test_a_lock_is_gone_when_its_work_is_done(tmp_path: Path) -> None:
    with locked(RunFolder(tmp_path), "run"):
        assert (tmp_path / NAME).exists()
    assert not (tmp_path / NAME).exists()


def test_a_lock_that_somebody_else_has_taken_since_stays(tmp_path: Path) -> None:
    with locked(RunFolder(tmp_path), "run"):
        left(tmp_path, pid=1)
    assert (tmp_path / NAME).exists()


def test_of_many_that_find_a_lock_left_behind_one_gets_it(tmp_path: Path) -> None:
    for i in range(20):
        folder = tmp_path / str(i)
        folder.mkdir()
        left(folder, begun="12")
        gate, over, won = threading.Barrier(4), threading.Barrier(4), []

        def take(folder: Path = folder, gate: Any = gate, over: Any = over, won: list[int] = won) -> None:
            gate.wait()
            try:
                with locked(RunFolder(folder), "run"):
                    won.append(1)
                    over.wait()
            except InputError:
                over.wait()

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [1]


def test_a_lock_whose_maker_was_killed_before_it_wrote_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medkit.runs.lock.YOUNG", 0.2)
    (tmp_path / NAME).touch()
    with locked(RunFolder(tmp_path), "run") as lock:
        assert lock.notes == ["an empty lock is taken over"]


@pytest.mark.parametrize("links", [True, False])
def test_a_lock_is_there_with_its_content_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Whoever is stopped for long in the midst of making one does not lose it meanwhile."""
    there: list[bool] = []
    fsync, link = os.fsync, os.link

    def written(file: int) -> None:
        fsync(file)
        there.append((tmp_path / NAME).exists())

    def linked(*names: Any) -> None:
        if not links:
            raise OSError(errno.EPERM, "Operation not permitted")  # as FAT has it
        link(*names)

    monkeypatch.setattr(os, "fsync", written)
    monkeypatch.setattr(os, "link", linked)
    with locked(RunFolder(tmp_path), "run"):
        assert not there[0]
        with pytest.raises(InputError, match="is working in this run folder"):
            locked(RunFolder(tmp_path), "run").__enter__()
        assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert not any(tmp_path.iterdir())


def test_a_lock_that_is_just_being_written_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()
    writer = threading.Timer(0.3, left, [tmp_path])
    writer.start()
    with pytest.raises(InputError, match="is working in this run folder"):
        locked(RunFolder(tmp_path), "run").__enter__()
    writer.join()
