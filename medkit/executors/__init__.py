"""Where the rows of a study or of a preparation run: on this machine, under SLURM, or on a Ray cluster.

A row is one ``medkit`` command. An executor starts rows and says whether some are still at work; it does not say what
became of them: that shows in what they leave behind (run folders, prepared samples), so that the process that started
them may be killed and started again. What a row prints goes to ``NAME.log`` in the folder that was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from medkit.errors import InputError

NAMES = ("local", "slurm", "ray")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Row:
    """One ``medkit`` command.

    Parameters
    ----------
    name:
        Names its log; letters, digits, ``-`` and ``_``.
    arguments:
        What follows ``medkit`` on a command line.
    environ:
        What is set in its environment in addition to what is there.
    """

    name: str
    arguments: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)


class Executor(Protocol):
    """Runs rows; one object for one set of rows."""

    def start(self, rows: Sequence[Row], folder: Path) -> str:
        """Start all rows, each as soon as there is room, with logs in ``folder``; says in words what was done."""
        ...

    def running(self) -> bool:
        """Whether any row is at work or waiting for its turn."""
        ...

    def leave(self) -> str | None:
        """The waiting process is interrupted: end the rows, or let them go on and say how to end them."""
        ...

    def end(self) -> None:
        """End all rows, wherever they are."""
        ...


def executor_of(name: str, at_once: int, options: Sequence[str] = ()) -> Executor:
    """The executor ``name``, with at most ``at_once`` rows at work; ``options`` are for ``sbatch``."""
    if options and name != "slurm":
        raise InputError("options of sbatch are for --on slurm", "--slurm")
    if name == "local":
        from medkit.executors.local import Local

        return Local(at_once)
    if name == "slurm":
        from medkit.executors.slurm import Slurm

        return Slurm(at_once, options)
    if name == "ray":
        from medkit.executors.ray import Ray

        return Ray()
    raise InputError(f"'{name}' is not a place to run", "--on", f"one of {', '.join(NAMES)}")
