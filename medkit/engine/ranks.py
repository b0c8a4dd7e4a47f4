"""Which of several processes this one is, from the environment in which it was started.

``medkit run --devices N`` and ``torchrun`` set ``RANK``, ``LOCAL_RANK`` and ``WORLD_SIZE``; SLURM's ``srun`` has its
own names. Nothing here imports torch.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from medkit.errors import ElsewhereError, InputError

if TYPE_CHECKING:
    from medkit.engine.strategy import Strategy

Result = TypeVar("Result")

RENDEZVOUS = "MEDKIT_RENDEZVOUS"
"""Set by :mod:`medkit.engine.launch`: where the ranks of one machine meet."""


@dataclass(frozen=True)
class Place:
    """The place of this process among the ranks of a run."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    by: str | None = None
    """Who started the ranks: ``medkit``, ``torchrun`` or ``srun``."""

    sharing: int = 1
    """Ranks that share the cores of this process; ``srun`` gives each task its own."""

    @property
    def is_main(self) -> bool:
        """True on the one rank that writes and speaks."""
        return self.rank == 0


def place(environ: Mapping[str, str] = os.environ) -> Place:
    """The place that the environment names; a single process where it names none."""
    if "WORLD_SIZE" in environ:
        by = "medkit" if RENDEZVOUS in environ else "torchrun"
        rank, world_size = _number(environ, "RANK", 0), _number(environ, "WORLD_SIZE", 1)
        sharing = _number(environ, "LOCAL_WORLD_SIZE", world_size)
        return Place(rank, _number(environ, "LOCAL_RANK", 0), world_size, by, sharing)
    # SLURM_NTASKS is in the environment of a batch script too; only srun sets the tasks of a step.
    tasks = _number(environ, "SLURM_STEP_NUM_TASKS", 1)
    if "SLURM_STEP_ID" in environ and tasks > 1:
        return Place(_number(environ, "SLURM_PROCID"), _number(environ, "SLURM_LOCALID"), tasks, "srun")
    return Place()


def rendezvous(found: Place, environ: Mapping[str, str] = os.environ) -> str:
    """Where the ranks meet, in the form that ``torch.distributed`` takes.

    Raises
    ------
    InputError
        if SLURM does not say which machine has rank 0.
    """
    if found.by == "medkit":
        return environ[RENDEZVOUS]
    if found.by == "srun":
        address = environ.get("MASTER_ADDR") or _first_node(environ)
        return f"tcp://{f'[{address}]' if ':' in address else address}:{environ.get('MASTER_PORT') or _port(environ)}"
    return "env://"


def agreed(strategy: Strategy, work: Callable[[], Result], what: str) -> Result:
    """``work()`` on every rank; a failure on any ends all of them, and is reported by one.

    It takes as long as the slowest rank takes; ``what`` is named if one of them does not finish.

    Raises
    ------
    Exception
        on the first rank where ``work`` failed, as it was raised there.
    ElsewhereError
        on the others.
    """
    if strategy.world_size == 1:
        return work()
    error: Exception | None = None
    try:
        result = work()
    except Exception as caught:
        error = caught
    failed = strategy.gather(error is not None, what)
    first = strategy.share(failed.index(True) if True in failed else None, what)
    if error is not None and first == strategy.rank:
        raise error
    if first is not None:
        raise ElsewhereError(exit_code=getattr(error, "exit_code", InputError.exit_code)) from error
    return result


def _first_node(environ: Mapping[str, str]) -> str:
    """The address of the machine that has rank 0: SLURM gives it to the first node of a step."""
    if environ.get("SLURM_STEP_NUM_NODES") == "1":
        return "127.0.0.1"
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST") or ""
    names = _scontrol("hostnames", nodes).split() if nodes else []
    if names:
        # The configuration has the address, even where node names are not host names.
        stated = re.search(r"\bNodeAddr=(\S+)", _scontrol("node", names[0], "-o"))
        return stated.group(1) if stated else names[0]
    if address := environ.get("SLURM_LAUNCH_NODE_IPADDR"):
        return address  # where srun was called: the first node, if a batch script called it
    hint = "export MASTER_ADDR=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1) in the job script"
    raise InputError("SLURM does not say on which machine rank 0 runs", hint=hint)


def _scontrol(*words: str) -> str:
    try:
        done = subprocess.run(
            ["scontrol", "show", *words], capture_output=True, text=True, encoding="utf-8", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _port(environ: Mapping[str, str]) -> int:
    """A port that all tasks of a step work out alike, different for each step; below those that systems hand out."""
    return 20000 + (_number(environ, "SLURM_JOB_ID") * 13 + _number(environ, "SLURM_STEP_ID", 0)) % 12000


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environ.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isascii() or not text.isdigit():
        raise InputError(f"{name}={text} in the environment is not a number", hint="what starts the ranks sets it")
    return int(text)
