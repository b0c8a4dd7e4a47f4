"""Rows as plain tasks on a Ray cluster (the extra ``ray``)."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medkit.errors import InputError, RunError
from medkit.executors import Row

PATIENCE = 10.0  # seconds for a cluster to answer
RETRIES = 2  # of a row whose node or worker is lost


class Ray:
    """One task with one CPU per row, on the cluster that ``RAY_ADDRESS`` names or that is found on this machine."""

    def __init__(self) -> None:
        try:
            import ray
        except ImportError as error:
            raise InputError("Ray is not installed", "--on ray", "pip install 'medkit-imaging[ray]'") from error
        self._ray: Any = ray
        self._tasks: list[Any] = []
        if not ray.is_initialized():
            address = os.environ.get("RAY_ADDRESS", "auto")
            try:
                _knock(address)
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except OSError as error:  # ConnectionError is one
                hint = "start one ('ray start --head'), or name one in RAY_ADDRESS"
                raise InputError(f"no Ray cluster answers at '{address}'", "--on ray", hint) from error

    def start(self, rows: Sequence[Row], folder: Path) -> str:
        ray = self._ray
        task = ray.remote(max_retries=RETRIES, num_cpus=1)(run_row)
        known = {name: value for name, value in os.environ.items() if name.startswith("MEDKIT_")}
        folder = folder.absolute()
        self._tasks = [
            task.remote(list(row.arguments), {**known, **row.environ}, str(folder / f"{row.name}.log"), os.getcwd())
            for row in rows
        ]
        return f"{len(rows)} tasks on a Ray cluster of {int(ray.cluster_resources().get('CPU', 0))} CPUs"

    def running(self) -> bool:
        ready, waiting = self._ray.wait(self._tasks, num_returns=len(self._tasks), timeout=0)
        for task in ready:
            self._tasks.remove(task)  # each is reported once
            try:
                problem = self._ray.get(task)
            except self._ray.exceptions.RayError as error:
                raise RunError(f"a task was lost ({str(error).splitlines()[0]})", "--on ray") from error
            if problem:
                raise RunError(problem, "--on ray", "name a folder on shared storage in MEDKIT_CACHE")
        return bool(waiting)

    def leave(self) -> None:
        self.end()

    def end(self) -> None:
        for task in self._tasks:
            self._ray.cancel(task, force=True)


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isascii() and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()


def run_row(arguments: Sequence[str], environ: Mapping[str, str], log: str, folder: str) -> str | None:
    """Run one row on whatever node this is; says what is wrong with the node, if anything is."""
    for needed in (os.path.dirname(log), folder):
        if not os.path.isdir(needed):
            return f"a node of the cluster does not see '{needed}'"
    from medkit.data.processes import die_with

    with open(log, "wb") as output:
        subprocess.run(
            [sys.executable, "-m", "medkit", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environ},
            cwd=folder,
            preexec_fn=lambda: die_with(None),  # a task that is cancelled or lost leaves no process behind
        )
    return None
