"""What an objective that a separate program trains and predicts for has to offer, and what it is given for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from medkit.protocols.cases import Case, Record
from medkit.protocols.training import Turn

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


class ExternalWork(Protocol):
    """What an external program is given to work with.

    ``folder`` is its own, ``external/STAGE/`` of the run folder, kept from one call to the next; ``device`` is
    ``"cpu"`` or ``"cuda:0"``.
    """

    folder: Path
    device: str

    def load(self, case: Case) -> Record:
        """The voxels of a case, on its source's grid."""
        ...

    def run(
        self, command: Sequence[str], log: str, environ: Mapping[str, str], line: Callable[[str], None] | None = None
    ) -> None:
        """Run a command to its end, its output going to the file ``log`` in ``folder`` and line by line to ``line``.

        Raises :class:`RunError` with its last lines if it fails; interrupting the run ends it too.
        """
        ...

    def say(self, text: str) -> None:
        """Print a line, and keep it in the run's log."""
        ...

    def advance(self, done: int, total: int | None = None, note: str = "") -> None:
        """Move the progress bar."""
        ...

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Keep what an epoch (from 1) found, ``{"train/loss": 0.3, "seconds": 9.1}``, in ``metrics.jsonl``."""
        ...


@runtime_checkable
class ExternalObjective(Protocol):
    """An objective that a separate program trains and predicts for, such as nnU-Net; ``external = True`` marks it.

    The program gets cases as the source has them (HU, source grid): the data block's ``prepare`` and ``augment`` are
    not applied, nor are the stage's batches, optimizer and schedule; ``ignores`` says so in words. ``train_cases``
    continues where an earlier call for the same folder was interrupted. ``predict_cases`` predicts many cases at once
    under a name that is unique in the stage, and returns what reads one case's standard predictions, as (D,H,W) arrays
    on the source grid. It is an ``nn.Module`` like any objective; its ``parts`` and ``turns`` may be empty.
    """

    external: ClassVar[bool]
    ignores: ClassVar[str]

    def turns(self) -> Sequence[Turn]: ...

    def parts(self) -> Mapping[str, Any]: ...

    def train_cases(
        self, work: ExternalWork, train: Sequence[Case], validate: Sequence[Case], epochs: int, seed: int
    ) -> None: ...

    def predict_cases(
        self, work: ExternalWork, cases: Sequence[Case], name: str
    ) -> Callable[[Case], Mapping[str, np.ndarray]]: ...

    def forget(self, work: ExternalWork, name: str) -> None:
        """Delete what ``predict_cases`` wrote under ``name``."""
        ...
