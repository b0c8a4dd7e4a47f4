"""What ranks must do together: fail, stop, save. One that did so on its own would leave the others waiting for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from medkit.engine import interrupt
from medkit.engine.clock import CheckpointClock
from medkit.engine.messages import LostRank
from medkit.engine.runtime import Runtime
from medkit.errors import ElsewhereError, MedkitError, RunError
from medkit.guard import cause

MEETING = 30.0
"""Seconds within which ranks that fail alike meet."""


class FailedTogether(Exception):
    """A failure that every rank knows about, so that all of them can go on with something else; its cause says why.

    ``met`` is True where the ranks have already told each other why: they do not meet for it again.
    """

    def __init__(self, met: bool = False) -> None:
        super().__init__()
        self.met = met


@contextmanager
def together(runtime: Runtime, what: str) -> Iterator[None]:
    """Work that each rank does by itself, without any message between them: what fails on one rank fails on all.

    It takes as long as the slowest rank takes; ``what`` is named if one of them does not finish.

    Raises
    ------
    FailedTogether
        on several ranks, with a cause that says on all of them what went wrong on the failed one; on a single rank
        the error itself is raised.
    """
    if runtime.world_size == 1:
        yield
        return
    error: Exception | None = None
    try:
        yield
    except Exception as mine:
        error = mine
    each = runtime.strategy.gather(None if error is None else _told(error), what)
    first = runtime.strategy.share(next((told for told in each if told is not None), None), what)
    if first is not None:
        raise FailedTogether(met=True) from error or RunError(*first)


def _told(error: Exception) -> tuple[str, str | None, str | None]:
    """What an error says, as plain text for the other ranks."""
    if isinstance(error, MedkitError):
        return error.what, error.where, error.hint
    return cause(error), None, None


def known_to_all(error: RunError, runtime: Runtime, what: str) -> RunError:
    """What ended the work of this rank, or of the first rank that has an error of its own: the same on all of them.

    Ranks that fail alike arrive here together. One that fails alone leaves the others waiting for something else: then
    its error is raised, and the run ends with it.

    Raises
    ------
    RunError
        ``error``, if another rank does not arrive.
    """
    if runtime.world_size == 1:
        return error
    mine = None if isinstance(error, ElsewhereError) else _told(error)
    try:
        # As 'together' asks: another rank may be at the end of work that has failed here.
        each = runtime.strategy.gather(mine, what, MEETING)
        first = runtime.strategy.share(next((told for told in each if told is not None), None), what)
    except LostRank:
        raise error from None
    return error if first is None else RunError(*first)


class Votes:
    """The questions of every step, asked in one message: are the losses finite, should it stop, is it time to save?

    ``stop`` and ``save`` are the answers for the current batch. ``weight`` is how much this rank's part of the step
    counts in an average over ranks: its items over their mean number. ``news`` says whether any rank has a loss by a
    new name.
    """

    def __init__(self, runtime: Runtime, clock: CheckpointClock) -> None:
        self.runtime, self.clock = runtime, clock
        self.stop = self.save = self.news = False
        self.weight = 1.0

    def open(self) -> None:
        """A new batch begins."""
        self.stop = self.save = False

    def sound(self, mine: bool, items: int = 0, news: bool = False) -> bool:
        """Whether a step on ``items`` items has gone well on every rank so far."""
        strategy = self.runtime.strategy
        asked = [not mine, interrupt.requested(), self.clock.due(), news, items, False]
        broken, stop, save, some_news, total, gathering = strategy.sum(asked)
        self.stop, self.save, self.news = self.stop or stop > 0, self.save or save > 0, some_news > 0
        self.weight = items * strategy.world_size / total if total else 1.0
        return not broken and not gathering

    def all_gather(self) -> bool:
        """Whether every rank, in the middle of its losses, is about to ask for the rows of all; a vote like the others,
        so that a rank that has failed on the way is heard."""
        broken, *_, gathering = self.runtime.strategy.sum([False, False, False, False, 0, True])
        return not broken and gathering == self.runtime.world_size

    def guarded(self) -> Guarded:
        """The part of a step before its vote, in which an error takes part too."""
        return Guarded(self)

    def stopping(self) -> bool:
        """Whether any rank has been asked to stop, at the end of an epoch's steps."""
        return self.runtime.strategy.any_true([interrupt.requested()])[0]


class Guarded:
    """A context whose error is a vote of :class:`Votes`; a class, because a generator costs more at every step.

    Raises
    ------
    FailedTogether
        on several ranks; on a single one the error itself is raised.
    """

    def __init__(self, votes: Votes) -> None:
        self.votes = votes

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, FailedTogether):  # all ranks know about the latter
            return
        if self.votes.runtime.world_size > 1:
            self.votes.sound(False)
            raise FailedTogether from error
