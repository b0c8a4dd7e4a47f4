"""How much memory a program takes, together with all that it starts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROC = Path("/proc")
EVERY = 1.0  # seconds; a peak between two looks is missed


class Footprint:
    """The peak memory of a session's processes together, in MB; None where the system does not say (only Linux does).

    Its leader, which only looks after the program (:mod:`medkit.runs.supervisor`), does not count.

    Pages shared by several of them count once. What a system reports for a child that has ended would not do: it starts
    with the size of the process that it was forked from.
    """

    kind = "children"

    def __init__(self) -> None:
        self.peak: float | None = None

    def restart(self) -> None:
        """Programs of one stage count together."""

    @contextmanager
    def watching(self, session: int) -> Iterator[None]:
        """Look at the session's processes repeatedly while the block runs."""
        over = threading.Event()

        def look() -> None:
            pause = EVERY / 32  # a program has just been started, and may be over soon
            while True:
                now = _held(session)
                if now is not None:
                    self.peak = max(self.peak or 0.0, now)
                if over.wait(pause):
                    return
                pause = min(2 * pause, EVERY)

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


def _held(session: int) -> float | None:
    total, found = 0, False
    for process in PROC.glob("[0-9]*"):
        if process.name == str(session):
            continue  # the supervisor, which is medkit's own
        with suppress(OSError, ValueError, IndexError):  # it has just ended, or is not ours
            # The fields after the name, which may hold anything, in brackets: state, parent, group, session.
            if int((process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[3]) != session:
                continue
            lines = (process / "smaps_rollup").read_text(encoding="utf-8").splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            found = True
    return total / 1024 if found else None
