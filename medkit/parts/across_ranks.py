"""Rows of the batches of all ranks, for losses that compare every item with all others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

Gather = Callable[[Tensor], tuple[Tensor, int]]

_how: ContextVar[Gather | None] = ContextVar("gather_rows", default=None)


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """The rows of all ranks, (n,D) to (sum of all n, D), rank after rank, and the index of this rank's first row.

    Ranks may have different n. In the losses of a training step every rank has to ask as often, in the same order. A
    loss that is a mean over a rank's *own* rows, each compared with all, then trains as on one rank with the whole
    batch: gradients flow to the rows of the others too. So does a loss of all rows that every rank computes alike,
    such as a covariance.

    On one rank, and wherever nothing is trained (losses of validation, where each batch is on one rank), it returns
    its argument and 0. Ask in ``loss``, not in ``forward``, which may be computed a second time (``checkpointing``).
    """
    gather = _how.get()
    return (rows, 0) if gather is None else gather(rows)


@contextmanager
def gathering(gather: Gather) -> Iterator[None]:
    """Have :func:`gather_rows` ask ``gather`` inside; the engine does this around losses."""
    token = _how.set(gather)
    try:
        yield
    finally:
        _how.reset(token)
