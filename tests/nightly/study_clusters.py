"""A study on a cluster, of which a worker and a node are killed in the midst; it ends as one that nobody disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml
from studies.conftest import recipe, study

from medkit.runs.lock import held_by
from medkit.studies.folder import StudyFolder
from medkit.studies.results import StudyResults
from medkit.studies.status import standing

SECONDS = 400


def written(folder: Path, epochs: int = 6) -> Path:
    """The small study with trainings of some seconds."""
    made = recipe()
    for stage in made["stages"]:
        stage["epochs"] = epochs
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(made, sort_keys=False))
    (folder / "study.yaml").write_text(yaml.safe_dump(study(), sort_keys=False))
    return folder / "study.yaml"


def started(
    path: Path, out: Path, environ: Mapping[str, str], *options: str, before: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """``medkit study run`` with two workers; ``before`` is what the command is started by."""
    words = [
        *before,
        sys.executable,
        "-m",
        "medkit",
        "study",
        "run",
        str(path),
        "--out",
        str(out),
        "--jobs",
        "2",
        *options,
    ]
    return subprocess.Popen(words, env={**environ}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(process: subprocess.Popen[str]) -> str:
    """What a command that ends well has said."""
    out, error = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, error
    return out + error


def workers(out: Path) -> dict[str, int]:
    """The trials that are being run, each with the id of its worker's process."""
    found = {}
    for trial in StudyFolder(out).trials() if (out / "trials.jsonl").is_file() else ():
        holder = held_by(out / "trials" / trial.name / "run.lock")
        if holder is not None and list((out / "trials" / trial.name).glob("checkpoints/*/*")):
            found[trial.name] = holder.pid
    return found


def killed_in_the_midst(process: subprocess.Popen[str], out: Path, kill: Callable[[int], None]) -> str:
    """Wait for a trial that has a checkpoint, and kill its worker; returns the trial."""
    end = time.monotonic() + SECONDS
    while not (running := workers(out)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    name, pid = next(iter(running.items()))
    kill(pid)
    return name


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def same(out: Path, other: Path) -> None:
    """All trials have ended with the same results, and no stage was trained twice."""
    folder = StudyFolder.open(out)
    assert standing(folder).count("finished") == 12
    assert StudyResults.read(out).twice() == []
    for trial in folder.trials():
        for name in ("results.json", "cases.csv"):
            one, two = (place / "trials" / trial.name / name for place in (out, other))
            assert one.read_bytes() == two.read_bytes(), f"{trial.name}/{name}"
