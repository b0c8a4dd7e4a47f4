"""Rows as one job array of SLURM.

Only ``squeue`` is asked what has become of the array: not every cluster keeps accounts for ``sacct``.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from medkit.errors import InputError, RunError
from medkit.executors import Row
from medkit.records import write_atomically

SCRIPT = """#!/bin/bash
# Row number SLURM_ARRAY_TASK_ID of the file 'rows', one command a line.
{environ}
row=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {rows})
log=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {logs})
eval "exec $row" > "$log" 2>&1
"""


class Slurm:
    """One ``sbatch --array``, at most ``at_once`` of its tasks at a time.

    Parameters
    ----------
    options:
        For ``sbatch``, after medkit's own, such as ``--partition=cpu`` or ``--time=2:00:00``.
    """

    def __init__(self, at_once: int, options: Sequence[str] = ()) -> None:
        if shutil.which("sbatch") is None:
            raise InputError("there is no 'sbatch' here", "--on slurm", "call it where jobs are submitted from")
        asked = subprocess.run(["scontrol", "ping"], capture_output=True, encoding="utf-8")
        if asked.returncode or " is UP" not in asked.stdout:
            said = (asked.stderr.strip() or asked.stdout.strip() or "no answer").splitlines()[0]
            raise InputError(f"SLURM's controller does not answer: {said}", "--on slurm", "is it up? 'scontrol ping'")
        self.at_once, self.options = at_once, list(options)
        self.job = ""

    def start(self, rows: Sequence[Row], folder: Path) -> str:
        folder = folder.absolute()
        commands = [shlex.join([sys.executable, "-m", "medkit", *row.arguments]) for row in rows]
        logs = [str(folder / f"{row.name}.log") for row in rows]
        # A site may start jobs with an empty environment; what rows add to it is the same for all of them.
        environ = {**{k: v for k, v in os.environ.items() if k.startswith("MEDKIT_")}, **rows[0].environ}
        exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environ.items())
        script = SCRIPT.format(
            environ=exports, rows=shlex.quote(str(folder / "rows")), logs=shlex.quote(str(folder / "logs"))
        )
        for name, text in (("rows", "\n".join(commands)), ("logs", "\n".join(logs)), ("array.sh", script)):
            write_atomically(folder / name, f"{text}\n".encode())
        array = f"--array=0-{len(rows) - 1}%{self.at_once}"
        done = subprocess.run(
            [
                *("sbatch", "--parsable", array, "--ntasks=1", "--cpus-per-task=1", "--job-name=medkit"),
                *(f"--chdir={Path.cwd()}", f"--output={folder}/slurm-%a.out", *self.options, str(folder / "array.sh")),
            ],
            capture_output=True,
            encoding="utf-8",
        )
        if done.returncode:
            raise RunError(f"sbatch refused the job: {done.stderr.strip()}", str(folder / "array.sh"))
        self.job = done.stdout.strip().split(";")[0]
        write_atomically(folder / "job", f"{self.job}\n".encode())
        return f"job {self.job}, an array of {len(rows)} tasks, {min(self.at_once, len(rows))} at once"

    def running(self) -> bool:
        done = subprocess.run(["squeue", "--noheader", f"--jobs={self.job}"], capture_output=True, encoding="utf-8")
        if done.returncode == 0:
            return bool(done.stdout.strip())
        # A job that has ended is soon forgotten; any other error is the controller not answering just now.
        return "Invalid job id" not in done.stderr

    def leave(self) -> str:
        return f"job {self.job} goes on; 'scancel {self.job}' ends it"

    def end(self) -> None:
        if self.job:
            subprocess.run(["scancel", "--quiet", self.job], capture_output=True, check=False)
