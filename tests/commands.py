"""``medkit`` commands, scripts and ranks for tests, each a process of its own, and mostly a forked one (:mod:`forks`).

All forks have one seed of hashes: what must not depend on it is compared with a new process. A command that is given
variables which Python or a library reads as it starts (``PYTHONPATH``, ``LC_ALL``) is a new process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

from forks import Forked

ONCE = ("PYTHON", "LC_", "LANG", "OMP_", "MKL_", "MPL", "TORCH")
"""How variables are called that are read once, when a process or a library starts."""


def start_command(
    words: Sequence[object], folder: Path, environ: Mapping[str, str] | None = None, new: bool = False
) -> Forked | subprocess.Popen[str]:
    """``python -m medkit WORDS`` in ``folder``, begun, with ``environ`` added to this process's, and one thread.

    With ``new`` it is a new process of Python.
    """
    line, added = [str(word) for word in words], dict(environ or {})
    whole = {**os.environ, "OMP_NUM_THREADS": "1", **added}
    if not new and not any(name.startswith(ONCE) for name in added):
        return Forked({"words": ["medkit", *line], "folder": str(folder), "environ": whole})
    start, pipe = [sys.executable, "-m", "medkit", *line], subprocess.PIPE
    return subprocess.Popen(start, cwd=folder, env=whole, stdout=pipe, stderr=pipe, text=True)


def run_command(
    words: Sequence[object], folder: Path, environ: Mapping[str, str] | None = None, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """What :func:`start_command` has said and ended with. After ``timeout`` seconds an error is raised."""
    return _ended(start_command(words, folder, environ), timeout)


def start_script(script: Path, words: Sequence[object], environ: Mapping[str, str] | None = None) -> Forked:
    """``python SCRIPT WORDS``, begun, with ``environ`` added to this process's, and one thread."""
    whole = {**os.environ, "OMP_NUM_THREADS": "1", **(environ or {})}
    line = [str(script), *map(str, words)]
    return Forked({"words": line, "script": str(script), "folder": os.getcwd(), "environ": whole})


def run_script(script: Path, words: Sequence[object]) -> subprocess.CompletedProcess[str]:
    """What ``python SCRIPT WORDS`` has said and ended with."""
    return _ended(start_script(script, words))


def run_ranks(
    words: Sequence[object], folder: Path, environ: Mapping[str, str]
) -> list[subprocess.CompletedProcess[str]]:
    """What ``medkit WORDS`` on two ranks, started by somebody else, has said and ended with on each."""
    ranks = [start_command(words, folder, {**environ, **place}) for place in places(folder)]
    return [_ended(rank) for rank in ranks]


def _ended(started: Forked | subprocess.Popen[str], timeout: float = 600) -> subprocess.CompletedProcess[str]:
    out, err = started.communicate(timeout)
    assert started.returncode is not None
    return subprocess.CompletedProcess([], started.returncode, out, err)


def places(folder: Path, count: int = 2) -> list[dict[str, str]]:
    """For each of several ranks the variables that name its place; they meet in a new file in ``folder``."""
    meet = {"MEDKIT_RENDEZVOUS": (folder / f"{uuid4().hex}.store").as_uri(), "WORLD_SIZE": str(count)}
    meet["LOCAL_WORLD_SIZE"] = str(count)
    return [{**meet, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
