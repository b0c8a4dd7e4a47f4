"""How a run is carried out: what changes neither recipe nor data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medkit.runs.trackers import Track

Workers = int | Literal["auto"]


@dataclass(frozen=True)
class RunSettings:
    """Where and how a run computes.

    Parameters
    ----------
    precision:
        ``fp32`` or ``bf16``.
    device:
        ``cpu`` or ``cuda``; default: CUDA when there is one.
    quiet:
        Print nothing; ``log.txt`` and ``metrics.jsonl`` are written all the same.
    resume:
        Continue the run in the folder, if one with the same recipe was begun there.
    track:
        Experiment trackers that the run is reported to, such as ``["tensorboard"]`` or
        ``[{"use": "mlflow", "every": 10}]``; a resumed run keeps those that it had.
    jobs:
        Processes that prepare cases, on each machine; default: as many as there are cores for this process, at most 32.
    workers:
        Processes that make the batches of each rank, in place of what the recipe says: a number, 0 for a thread, or
        ``auto``. Neither ``jobs`` nor ``workers`` changes a bit of the results.
    link:
        Take stages that another run has finished under the same key from there (:mod:`medkit.runs.links`); folders:
        only from runs in one of them, and what is trained here can be taken by the runs in the first; False trains them
        again without comment. Default: ``$MEDKIT_LINK``, else they are trained, and a line says that they could have
        been taken.
    """

    precision: str = "fp32"
    device: str | None = None
    quiet: bool = False
    resume: bool = False
    track: Sequence[Track] = ()
    jobs: int | None = None
    workers: Workers | None = None
    link: bool | Path | Sequence[Path] | None = None
