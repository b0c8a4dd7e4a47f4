"""``--devices N``: one command of several processes, which ends as one, says one thing and leaves nobody behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import run_ranks, start_command
from forks import Forked
from helpers import large_enough, small_recipe

from medkit.engine.checkpoint import read_tensors

Started = Forked | subprocess.Popen[str]
LONG = 5000  # epochs; no test waits for them


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """``start("run", ...)`` starts medkit in a folder of its own; with ``new`` in a new process of Python."""
    started = []

    def command(*words: object, new: bool = False, **environ: str) -> Started:
        process = start_command(words, tmp_path, {"MEDKIT_CACHE": str(tmp_path / "cache"), **environ}, new)
        started.append(process)
        return process

    yield command
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def recipe(folder: Path, epochs: int = 2) -> Path:
    """With an encoder that needs no timm, which takes each rank seconds to import."""
    objective = {"use": "multitask", "encoder": {"use": "baselines:patel_cnn"}}
    objective |= {"heads": {"cls": {"use": "smartnet:slice_class"}}}
    made = small_recipe("ranks", {"maps": {"cases": 0}}, epochs=epochs, batch=2, objective=objective)
    return large_enough(made, folder / "r.yaml")


def until(process: Started, reached: Callable[[], bool]) -> None:
    """Wait until the process has come so far."""
    limit = time.monotonic() + 600
    while time.monotonic() < limit and process.poll() is None:
        if reached():
            return
        time.sleep(0.005)
    raise AssertionError(process.communicate()[1])


def after_an_epoch(process: Started, run: Path) -> None:
    """Wait until the run has told its first epoch."""
    until(process, (run / "metrics.jsonl").exists)


def on_ranks(folder: Path, *words: object) -> None:
    """The command on two ranks that another launcher has started, to its end."""
    ranks = run_ranks(words, folder, {"MEDKIT_CACHE": str(folder / "cache")})
    assert [rank.returncode for rank in ranks] == [0, 0], ranks[0].stderr


def ranks_of(process: Started) -> list[int]:
    """The processes that the launcher has started."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def gone(pids: list[int], seconds: float = 10) -> bool:
    """Whether the processes end within ``seconds``; a dead one that nobody buries has ended."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        alive = []
        for pid in pids:
            try:
                alive.append(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z")
            except OSError:
                alive.append(False)
        if not any(alive):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_a_wrong_recipe_is_told_once_and_makes_no_folder(start, tmp_path: Path) -> None:
    process = start("run", recipe(tmp_path), "--set", "data.d.splits.train.fold=nix", "--out", "out", "--devices", 2)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 2
    assert said.count("split 'train' is empty") == 1
    assert len([line for line in said.splitlines() if line.startswith("error")]) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_interrupted_run_of_two_ranks_exits_with_130_says_so_once_and_ends_as_one_that_was_not(
    start, tmp_path: Path
) -> None:
    words = ["run", recipe(tmp_path, epochs=6), "--device", "cpu", "--out"]
    on_ranks(tmp_path, *words, "straight")
    process = start(*words, "broken", "--devices", 2)
    after_an_epoch(process, tmp_path / "broken")
    ranks = ranks_of(process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130, said
    assert said.count("resumable: medkit resume broken --devices 2") == 1
    assert gone(ranks)
    assert "interrupted by SIGTERM" in (tmp_path / "broken" / "log.txt").read_text()
    on_ranks(tmp_path, *words, "broken", "--resume")
    for path in (tmp_path / "straight" / "weights").iterdir():
        assert (tmp_path / "broken" / "weights" / path.name).read_bytes() == path.read_bytes()
    results = [json.loads((tmp_path / run / "results.json").read_text()) for run in ("straight", "broken")]
    assert results[0] == results[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_rank_ends_the_run_which_names_it(start, tmp_path: Path) -> None:
    process = start("run", recipe(tmp_path, epochs=LONG), "--out", "out", "--devices", 2, "--device", "cpu")
    after_an_epoch(process, tmp_path / "out")
    ranks = ranks_of(process)
    os.kill(ranks[1], signal.SIGKILL)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 1
    assert [line for line in said.splitlines() if line.startswith("error")] == [
        "error: rank 1 was killed by SIGKILL; did the machine run out of memory? "
        "'medkit resume' continues from the last checkpoint"
    ]
    assert gone(ranks)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the system ends ranks with their launcher")
def test_ranks_die_with_a_killed_launcher(start, tmp_path: Path) -> None:
    process = start("run", recipe(tmp_path, epochs=LONG), "--out", "out", "--devices", 2, "--device", "cpu")
    after_an_epoch(process, tmp_path / "out")
    ranks = ranks_of(process)
    process.kill()
    assert gone(ranks)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a terminal of its own")
def test_a_closed_terminal_asks_a_run_to_stop(tmp_path: Path) -> None:
    recipe(tmp_path, epochs=LONG)
    environ = os.environ | {"MEDKIT_CACHE": "cache", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TERMINAL]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (130, "")
    assert "interrupted by SIGHUP" in (tmp_path / "out" / "log.txt").read_text()


TERMINAL = """
import os, pathlib, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)
pid, terminal = os.forkpty()
if pid == 0:
    words = [sys.executable, "-m", "medkit", "run", "r.yaml", "--out", "out", "--device", "cpu"]
    os.execv(sys.executable, words)
while not pathlib.Path("out/metrics.jsonl").exists():
    os.read(terminal, 1 << 16)
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
"""Runs medkit in a terminal of its own and closes that: in a process of its own, for forks of this one ignore signals."""


@pytest.mark.slow
def test_a_run_is_started_or_gone_on_with_by_one_command(start, tmp_path: Path) -> None:
    words = ["run", recipe(tmp_path, epochs=LONG), "--out", "out", "--device", "cpu", "--resume"]
    process = start(*words)
    after_an_epoch(process, tmp_path / "out")
    process.send_signal(signal.SIGUSR1)
    _, said = process.communicate(timeout=600)
    assert (process.returncode, said.count("resumable: medkit resume out")) == (130, 1)
    process = start(*words, "--set", "stages.s.batch=3")
    _, said = process.communicate(timeout=600)
    assert process.returncode == 2
    assert "stages.s.batch is 2 there and 3 here" in said
    process = start(*words)
    until(process, lambda: "going on at epoch" in (tmp_path / "out" / "log.txt").read_text())


def stopped(start: Callable[..., Started], folder: Path, name: str, *words: object) -> Path:
    """A run on two ranks that was asked to stop after an epoch."""
    process = start("run", recipe(folder, epochs=6), "--device", "cpu", "--out", name, "--devices", 2, *words)
    after_an_epoch(process, folder / name)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130, said
    return folder / name


@pytest.mark.slow
def test_ranks_that_go_on_with_another_recipe_say_so_once(start, tmp_path: Path) -> None:
    run = stopped(start, tmp_path, "edited")
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("batch: 2", "batch: 1"))
    assert (run / "recipe.yaml").read_text() != text
    on_ranks(tmp_path, "resume", "edited", "--device", "cpu")
    notices = json.loads((run / "environment.json").read_text())["notices"]
    (told,) = [text for text in notices if "before these changed" in text]
    assert "the stage in recipe.yaml or a file that it names; its weights come from both" in told
    assert (run / "log.txt").read_text().count(told) == 1


@pytest.mark.slow
def test_ranks_do_not_continue_from_a_checkpoint_of_another_run(start, tmp_path: Path) -> None:
    mine, other = stopped(start, tmp_path, "mine"), stopped(start, tmp_path, "other", "--seed", 7)
    for file in (other / "checkpoints" / "s").iterdir():
        shutil.copy(file, mine / "checkpoints" / "s")
    process = start("resume", "mine", "--device", "cpu", "--devices", 2)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 1, said
    (error,) = [line for line in said.splitlines() if line.startswith("error")]
    assert "written by another training of stage 's'" in error
    assert not list((mine / "weights").glob("*.safetensors"))


def test_the_place_of_a_rank_is_not_given_twice(start, tmp_path: Path) -> None:
    process = start("run", recipe(tmp_path), "--devices", 2, WORLD_SIZE="2", RANK="1")
    _, said = process.communicate(timeout=600)
    assert process.returncode == 2
    assert "torchrun has started 2 ranks, of which this is one; leave --devices out" in said


@pytest.mark.slow
def test_an_interrupted_evaluation_lets_others_into_the_run_folder(start, tmp_path: Path) -> None:
    assert start("run", recipe(tmp_path, epochs=1), "--out", "out", "--device", "cpu").wait(120) == 0
    process = start("evaluate", "out", "--split", "test", "--device", "cpu")
    until(process, (tmp_path / "out" / "run.lock").exists)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=600)
    assert (process.returncode, said) == (130, "interrupted; the same command measures again\n")
    assert not (tmp_path / "out" / "run.lock").exists()


@pytest.mark.slow
def test_weights_of_equal_runs_are_equal_bytes(start, tmp_path: Path) -> None:
    words = ["run", recipe(tmp_path), "--device", "cpu", "--out"]
    runs = [start(*words, name, new=name == "two") for name in ("one", "two")]  # of two seeds of hashes
    assert [process.wait(120) for process in runs] == [0, 0]
    files = sorted((tmp_path / "one" / "weights").iterdir())
    assert files
    for path in files:
        read_tensors(path)
        assert path.read_bytes() == (tmp_path / "two" / "weights" / path.name).read_bytes(), path.name
