"""Where and how the trials of a study run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Options:
    """Where and how the trials of a study run.

    Parameters
    ----------
    on:
        ``local``, ``slurm`` or ``ray``.
    jobs:
        Workers, each of which runs one trial after another.
    threads:
        Of each worker. Another number of threads sums in another order, so it is the same everywhere.
    slurm:
        Options for ``sbatch``.
    plugins:
        Files of plugins under development.
    link:
        Folders of other studies, from which stages are taken that they have trained under the same key.
    """

    on: str = "local"
    jobs: int = 1
    threads: int = 1
    device: str | None = None
    precision: str = "fp32"
    slurm: Sequence[str] = ()
    plugins: Sequence[str] = ()
    link: Sequence[str] = ()


@contextmanager
def threads_of(options: Options) -> Iterator[None]:
    """Inside, torch computes with as many threads as each worker does: times measured there are those of a worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
